// Charts: each <figure class="chart" data-source="..." data-series='[...]'> gets its numbers as JSON and is drawn by uPlot.
"use strict";
(function () {
  const HEIGHT = 240;
  const DARK = window.matchMedia("(prefers-color-scheme: dark)");
  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }
  function at(data, path) {
    return path.split(".").reduce(function (value, key) { return value === undefined ? value : value[key]; }, data);
  }
  function percent(value) {
    return (100 * value).toFixed(1) + "%";
  }
  function precise(value) {
    return Number(value).toPrecision(3);
  }
  function known(value) {
    return value !== null && value !== undefined;
  }
  // Under the pointer, else the newest: a legend that always says something.
  function legend(said) {
    return function (plot, value, series, index) {
      if (index === null || index === undefined) value = plot.data[series].filter(known).pop();
      return known(value) ? said(value) : "none";
    };
  }
  function options(figure, wanted, width) {
    const share = figure.dataset.share !== undefined;
    const axis = { stroke: colour("--soft"), grid: { stroke: colour("--edge"), width: 1 }, ticks: { stroke: colour("--edge") } };
    const up = share ? { values: function (_, ticks) { return ticks.map(function (tick) { return Math.round(100 * tick) + "%"; }); } } : {};
    return {
      width: width,
      height: HEIGHT,
      scales: { x: { time: false }, y: { range: share ? [0, 1] : function (_, low, high) { return [0, (high || 1) * 1.1]; } } },
      axes: [Object.assign({ incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000] }, axis), Object.assign({ size: 64 }, axis, up)],
      series: [{ label: "round", value: legend(String) }].concat(wanted.map(function (one) {
        return {
          label: one.label, stroke: colour(one.colour), width: 2, dash: one.dash || [], spanGaps: true, points: { size: 5 },
          value: legend(share ? percent : precise),
        };
      })),
    };
  }
  function draw(figure, data) {
    const wanted = JSON.parse(figure.dataset.series);
    const place = figure.querySelector(".plot");
    const x = at(data, figure.dataset.x);
    const lines = wanted.map(function (one) { return at(data, one.path); });
    if (!x || x.length < 2) {
      place.textContent = "Two rounds or more are needed for a chart.";
      return;
    }
    if (!lines.some(function (line) { return line.some(known); })) {
      place.textContent = "These rounds have no sum of the devices' usage, which the figures come from.";
      return;
    }
    let plot = null;
    function width() {
      return Math.max(place.clientWidth, 240);
    }
    function redraw() {
      if (plot) plot.destroy();
      place.textContent = "";
      plot = new uPlot(options(figure, wanted, width()), [x].concat(lines), place);
    }
    redraw();
    DARK.addEventListener("change", redraw);
    window.addEventListener("resize", function () { plot.setSize({ width: width(), height: HEIGHT }); });
  }
  function load(figure) {
    const place = figure.querySelector(".plot");
    fetch(figure.dataset.source, { headers: { Accept: "application/json" } })
      .then(function (answer) {
        if (!answer.ok) throw new Error("status " + answer.status);
        return answer.json();
      })
      .then(function (data) { draw(figure, data); })
      .catch(function (error) { place.textContent = "The figures could not be loaded (" + error.message + "). Reload the page."; });
  }
  document.querySelectorAll("figure.chart").forEach(load);
})();
