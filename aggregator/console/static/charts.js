// Charts: each <figure class="chart" data-source="..." data-series='[...]'> gets its numbers as JSON and is drawn by uPlot.
"use strict";
(function () {
  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }
  function at(data, path) {
    return path.split(".").reduce(function (value, key) { return value === undefined ? value : value[key]; }, data);
  }
  function draw(figure, data) {
    const wanted = JSON.parse(figure.dataset.series);
    const place = figure.querySelector(".plot");
    const x = at(data, figure.dataset.x);
    if (!x || x.length < 2) {
      place.textContent = "Two rounds or more are needed for a chart.";
      return;
    }
    const axis = { stroke: colour("--soft"), grid: { stroke: colour("--edge"), width: 1 }, ticks: { stroke: colour("--edge") } };
    const options = {
      width: Math.max(place.clientWidth, 240),
      height: 240,
      scales: { x: { time: false }, y: figure.dataset.share === undefined ? { range: function (_, low, high) { return [0, (high || 1) * 1.1]; } } : { range: [0, 1] } },
      axes: [Object.assign({ incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000] }, axis), Object.assign({ size: 64 }, axis)],
      series: [{ label: "round" }].concat(wanted.map(function (one) {
        return {
          label: one.label, stroke: colour(one.colour), width: 2, dash: one.dash || [], spanGaps: true, points: { size: 5 },
          value: function (_, value) { return value === null || value === undefined ? "–" : Number(value).toPrecision(3); },
        };
      })),
    };
    place.textContent = "";
    const plot = new uPlot(options, [x].concat(wanted.map(function (one) { return at(data, one.path); })), place);
    window.addEventListener("resize", function () {
      plot.setSize({ width: Math.max(place.clientWidth, 240), height: 240 });
    });
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
