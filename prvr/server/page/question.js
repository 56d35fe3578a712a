// A question as the service takes it. A picture is in no address: it is kept while the page is open.

import { LISTS } from "./place.js";
import { ask, Refusal } from "./service.js";
import { titleOf } from "./words.js";

const pictures = new Map();

// Keeps a picture; returns what stands for it in the address.
export function keepPicture(file) {
  const name = `${pictures.size + 1} ${file.name || "pasted"}`;
  pictures.set(name, file);
  return name;
}

export async function askQuestion(path, question, more, signal) {
  const given = { ...Object.fromEntries(LISTS.map((name) => [name, question[name]])), ...more };
  if (question.q) given.q = question.q;
  if (question.in) given.in = question.in;
  if (question.like) Object.assign(given, { like: question.like, t: question.t || "0" });
  if (question.picture && !pictures.has(question.picture)) throw new Refusal("This page no longer has the picture. Add it again.");
  return ask(path, given, signal, pictures.get(question.picture));
}

export function titleOfQuestion(question) {
  const quoted = (texts) => texts.map((text) => `“${text}”`);
  const base = [question.q ? `“${question.q}”` : "", question.picture ? `like the picture ${nameOfPicture(question.picture)}` : "", question.like ? `like a moment of ${titleOf(question.like)}` : ""];
  const first = [base.filter(Boolean).join(", "), ...quoted(question.also)].join(" or ");
  const whole = [first, ...quoted(question.then)].join(", then ") + question.without.map((text) => `, without “${text}”`).join("");
  return whole[0].toUpperCase() + whole.slice(1);
}

export const nameOfPicture = (picture) => picture.replace(/^\d+ /, "");
