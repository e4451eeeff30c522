/** What this tab keeps until it is closed; for as long as the page lives where a browser keeps nothing. */

const here = new Map();

export function kept(name) {
  try {
    return sessionStorage.getItem(name);
  } catch {
    return here.get(name) ?? null;
  }
}

export function keep(name, value) {
  try {
    sessionStorage.setItem(name, value);
  } catch {
    here.set(name, value);
  }
}
