// A session token is valid for a minute, and filling in a form takes longer. Before a late submit
// a hidden frame renews the session through Clerk. If that fails, the server's error page keeps the
// form's fields and offers to continue.
import { isBusy, showBusy } from "./busy.js";

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
    if (isBusy(form)) return; // a second click while the session is renewed
    showBusy(form, event.submitter);
    await renew(form.dataset.renew);
    form.requestSubmit(event.submitter);
  });
}
