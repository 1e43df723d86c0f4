// What markup alone cannot do: tell a reader that what stands here is no longer kept up to date. No other behaviour.
"use strict";
(function () {
  const STALE = ["htmx:sseError", "htmx:sendError", "htmx:timeout", "htmx:responseError"];
  const FRESH = ["htmx:sseOpen", "htmx:afterOnLoad"];
  function show(stale) {
    const notice = document.getElementById("stale");
    if (notice) notice.hidden = !stale;
  }
  for (const name of STALE) document.addEventListener(name, function () { show(true); });
  for (const name of FRESH) document.addEventListener(name, function (event) {
    const answer = event.detail && event.detail.xhr;
    if (!answer || answer.status < 400) show(false);
  });
  window.addEventListener("offline", function () { show(true); });
})();
