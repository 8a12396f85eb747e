// Updates the progress of a sweep while it is active, and reloads the page at its end.
const PAUSE_MS = 1_000;
const ACTIVE = ["queued", "running"];

const page = document.querySelector("[data-sweep]");

async function follow() {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    const answer = await fetch(page.dataset.sweep).catch(() => null);
    if (!answer?.ok) return location.reload();
    const run = await answer.json();
    const progress = page.querySelector("[data-progress]");
    progress.max = run.total || 1;
    progress.value = run.scanned;
    for (const count of page.querySelectorAll("[data-count]")) {
      count.textContent = run[count.dataset.count].toLocaleString("pt-BR");
    }
    if (!ACTIVE.includes(run.status)) return location.reload();
  }
}

if (page?.dataset.sweep) follow();
