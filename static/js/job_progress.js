// Updates the page of a job while it is active; without JavaScript the browser reloads the page.
const PAUSE_MS = 1_000;

async function follow() {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    const response = await fetch(location.href).catch(() => null);
    if (!response?.ok) continue; // the job runs on the server
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
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
