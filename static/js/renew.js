// A session token lives for a minute, filling in a form takes longer. Whoever sends one late has
// their session renewed first, in a hidden frame, where Clerk may be asked; if that fails, the
// server keeps what was filled in and offers to continue.
const FRESH_MS = 40_000;
const LIMIT_MS = 4_000;

let renewedAt = Date.now();

function renew(url) {
  return new Promise((resolve) => {
    const frame = document.createElement("iframe");
    const done = () => {
      frame.remove();
      renewedAt = Date.now();
      resolve();
    };
    frame.hidden = true;
    frame.title = "Renovação da sessão";
    frame.addEventListener("load", done, { once: true });
    setTimeout(done, LIMIT_MS);
    frame.src = url;
    document.body.append(frame);
  });
}

for (const form of document.querySelectorAll("form[data-renew]")) {
  form.addEventListener("submit", async (event) => {
    if (Date.now() - renewedAt < FRESH_MS) return;
    event.preventDefault();
    await renew(form.dataset.renew);
    form.requestSubmit(event.submitter);
  });
}
