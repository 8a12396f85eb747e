// Shows the page of a job anew while the job is on; without JavaScript the browser reloads it.
const PAUSE_MS = 1_000;

async function follow() {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    const answer = await fetch(location.href).catch(() => null);
    if (!answer?.ok) continue; // the job goes on without us
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const found = fresh.querySelector("[data-job]");
    if (!found?.matches("[data-active]")) return location.reload();
    const shown = document.querySelector("[data-job]");
    shown.querySelector("h1").textContent = found.querySelector("h1").textContent;
    const [progress, next] = [shown, found].map((page) => page.querySelector("progress"));
    progress.max = next.max;
    progress.value = next.value;
  }
}

if (document.querySelector("[data-job][data-active]")) follow();
