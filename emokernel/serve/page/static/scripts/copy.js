/** Copies a text and says so on the button. */

const SAID_MS = 1600;

export async function copy(text, button) {
  const usual = button.textContent;
  button.textContent = (await copied(text)) ? "Copied" : "Not copied: the browser refused";
  setTimeout(() => { button.textContent = usual; }, SAID_MS);
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copiedFromField(text); // pages without TLS, off this machine, have no clipboard
  }
}

function copiedFromField(text) {
  const before = document.activeElement;
  const field = document.createElement("textarea");
  field.className = "unseen";
  field.value = text;
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  before?.focus();
  return done;
}
