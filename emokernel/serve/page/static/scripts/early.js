// No module, and older than they are: says so where the others cannot run.
addEventListener("error", tellOfOld, true);
addEventListener("unhandledrejection", tellOfOld);

function tellOfOld() {
  if ("ready" in document.body.dataset) return;
  document.getElementById("starting").textContent =
    "This page does not run here: it needs a browser from 2024 on, and all of its own files.";
}
