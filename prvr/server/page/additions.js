// What is said beside the sentence: later parts, other words, what is not shown; the picture; and moments that thumbs chose.

import { at, make } from "./elements.js";
import { questionOf } from "./place.js";
import { nameOfPicture } from "./question.js";
import { clock, titleOf } from "./words.js";

const KINDS = { then: "then", also: "in other words", without: "without" };

// Rows for all that a question adds; `go` follows where what one of them does leads to.
export function showAdditions(question, go) {
  const rows = Object.keys(KINDS).flatMap((name) => question[name].map((text) => sentenceRow(name, text)));
  const rated = ["more", "less"].flatMap((name) => question[name].map((moment) => ratedRow(question, name, moment, go)));
  at("further").replaceChildren(...rows, ...(question.picture ? [pictureRow(question, go)] : []), ...rated);
  at("moments").checked = Boolean(question.moments);
}

export function addSentence() {
  const row = sentenceRow("then");
  at("further").append(row);
  row.querySelector("input").focus();
}

// The sentences of the rows, as they are written now.
export function additions() {
  const found = { then: [], also: [], without: [] };
  for (const row of at("further").children) {
    const [select, input] = [row.querySelector("select"), row.querySelector("input")];
    if (input?.value.trim()) found[select.value].push(input.value.trim());
  }
  return found;
}

function sentenceRow(name, text = "") {
  const select = make("select", { "aria-label": "How it belongs to the sentence" });
  for (const [value, said] of Object.entries(KINDS)) select.append(make("option", { value, selected: value === name }, said));
  const input = make("input", { type: "text", maxlength: 1000, autocomplete: "off", "aria-label": "Another sentence", value: text });
  const row = make("li", { class: "addition" }, select, input, removeButton("Remove this sentence", () => row.remove()));
  return row;
}

function pictureRow(question, go) {
  const name = nameOfPicture(question.picture);
  const remove = () => go(questionOf({ ...question, picture: "" }));
  return make("li", { class: "addition" }, make("span", { class: "folder" }, `picture ${name}`), removeButton(`Remove the picture ${name}`, remove));
}

// A moment that a thumb chose; the card of one that was wrong is no longer in the list.
function ratedRow(question, name, moment, go) {
  const place = moment.lastIndexOf("@");
  const said = `${name} like ${titleOf(moment.slice(0, place))} at ${clock(Number(moment.slice(place + 1)))}`;
  const remove = () => go({ ...question, [name]: question[name].filter((one) => one !== moment) });
  return make("li", { class: "addition" }, make("span", { class: "folder" }, said), removeButton(`Take back: ${said}`, remove));
}

const removeButton = (said, onclick) => make("button", { type: "button", class: "quiet", "aria-label": said, title: said, onclick }, "✕");
