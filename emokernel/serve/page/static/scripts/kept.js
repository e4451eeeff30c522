/** What this tab keeps until it is closed; for as long as the page lives what a browser does not keep. */

const here = new Map();

export function kept(name) {
  if (here.has(name)) return here.get(name);
  try {
    return sessionStorage.getItem(name);
  } catch {
    return null;
  }
}

/** Whether the browser has kept it. */
export function keep(name, value) {
  here.delete(name);
  try {
    sessionStorage.setItem(name, value);
    return true;
  } catch {
    here.set(name, value);
    return false;
  }
}
