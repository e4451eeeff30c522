/** Messages as sentences: with a capital, and one stop at the end. */

export const sentence = (text) =>
  `${text.charAt(0).toUpperCase()}${text.slice(1)}`.replace(/([^.!?…])$/, "$1.");
