/** Copies a text and says so on the button. */

const SAID_MS = 1600;
const saying = new Map(); // buttons: [what usually stands on one, the timer]

export async function copy(text, button) {
  const done = await copied(text);
  const [usual, timer] = saying.get(button) ?? [button.textContent];
  clearTimeout(timer);
  button.textContent = done ? "Copied" : "Not copied: the browser refused";
  const back = setTimeout(() => {
    saying.delete(button);
    button.textContent = usual;
  }, SAID_MS);
  saying.set(button, [usual, back]);
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
