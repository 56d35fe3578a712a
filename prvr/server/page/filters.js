// The choices of folder, length and date beside the typed conditions: each follows the other.

import { at, make } from "./elements.js";
import { conditionsOf } from "./place.js";
import { ask, Refusal } from "./service.js";
import { clock } from "./words.js";

const MINUTE = 60;
// Each with what it says, its least and its most seconds.
const LENGTHS = [
  ["under 1 minute", 0, MINUTE],
  ["1 to 5 minutes", MINUTE, 5 * MINUTE],
  ["5 to 20 minutes", 5 * MINUTE, 20 * MINUTE],
  ["20 to 60 minutes", 20 * MINUTE, 60 * MINUTE],
  ["over 1 hour", 60 * MINUTE, Infinity],
];
const lengthText = (least, most) => [least ? `duration>=${least}` : "", most < Infinity ? `duration<${most}` : ""].filter(Boolean).join("; ");

// What of typed conditions can be shown as choices, and the rest, which stays as it is.
export function choicesOf(where) {
  const choices = { folder: "", least: "", most: "", since: "", until: "", rest: [] };
  for (const condition of conditionsOf(where)) {
    const [, field, sign, value] = condition.match(/^(folder|duration|date)\s*(<=|>=|<|>|=)\s*(.+)$/) ?? [];
    const isDay = /^\d{4}-\d\d-\d\d$/.test(value);
    const names = { folder: { "=": "folder" }, duration: { ">": "least", ">=": "least", "<": "most", "<=": "most" }, date: isDay ? { ">=": "since", "<=": "until" } : {} };
    const name = names[field]?.[sign];
    if (!name || choices[name]) choices.rest.push(condition);
    else choices[name] = field === "duration" ? `duration${sign}${value}` : value;
  }
  return choices;
}

export function whereOf({ folder, length, since, until, rest }) {
  return [folder && `folder=${folder}`, length, since && `date>=${since}`, until && `date<=${until}`, ...rest].filter(Boolean).join("; ");
}

export class Filters {
  // onChange: what happens when a choice was made; the typed conditions have it by then.
  constructor({ onChange }) {
    this.facets = { folders: {}, durations: null, dates: null };
    at("where").addEventListener("input", () => this.follow());
    for (const id of ["in-folder", "of-length"]) at(id).addEventListener("change", () => (this.write(), onChange()));
    // While a date is typed it is none that is meant.
    for (const id of ["since", "until"]) {
      at(id).addEventListener("change", () => this.write());
      at(id).addEventListener("blur", onChange);
    }
  }

  // Reads what the index holds; without an answer there is the typed form.
  async read() {
    try {
      this.facets = await ask("api/facets", {});
    } catch (problem) {
      if (!(problem instanceof Refusal)) throw problem;
    }
    const { durations, dates } = this.facets;
    for (const id of ["since", "until"]) [at(id).min, at(id).max] = dates ?? ["", ""];
    const range = (first, last) => (first === last ? first : `${first} to ${last}`);
    const said = [dates ? `The videos are of ${range(...dates)}` : "", durations ? `${dates ? "" : "The videos are "}${range(...durations.map(clock))} long` : ""].filter(Boolean);
    at("date-range").textContent = said.length ? `${said.join(", ")}.` : "";
    at("folders").replaceChildren(...Object.keys(this.facets.folders).map((folder) => make("option", { value: folder })));
    this.follow();
  }

  // Shows the typed conditions as choices.
  follow() {
    const where = at("where").value;
    const { folder, least, most, since, until } = choicesOf(where);
    // A semicolon would end the condition.
    const folders = Object.entries(this.facets.folders).filter(([name]) => !name.includes(";") && name === name.trim());
    const inFolder = folders.map(([name, count]) => [name, `${name} (${count})`]);
    fill(at("in-folder"), [["", "any folder"], ...inFolder], folder.replace(/^\/+|\/+$/g, ""));
    const [shortest, longest] = this.facets.durations ?? [0, Infinity];
    const lengths = LENGTHS.filter(([, from, to]) => from <= longest && to > shortest).map(([said, from, to]) => [lengthText(from, to), said]);
    fill(at("of-length"), [["", "any length"], ...lengths], [least, most].filter(Boolean).join("; "), saidOf(least, most));
    for (const [id, day] of [["since", since], ["until", until]]) if (at(id) !== document.activeElement || day) at(id).value = day;
    const count = conditionsOf(where).length;
    at("narrow").textContent = count ? `Filter · ${count}` : "Filter";
  }

  write() {
    const { rest } = choicesOf(at("where").value);
    const valueOf = (id) => at(id).value;
    at("where").value = whereOf({ folder: valueOf("in-folder"), length: valueOf("of-length"), since: valueOf("since"), until: valueOf("until"), rest });
    this.follow();
  }
}

function saidOf(least, most) {
  const [from, to] = [least, most].map((bound) => Number(bound.replace(/^[^\d.]*/, "")));
  if (least && most) return `${clock(from)} to ${clock(to)}`;
  return least ? `over ${clock(from)}` : `under ${clock(to)}`;
}

// What is typed and is none of the choices becomes one.
function fill(select, options, chosen, said = chosen) {
  const all = options.some(([value]) => value === chosen) ? options : [...options, [chosen, said]];
  select.replaceChildren(...all.map(([value, said]) => make("option", { value, selected: value === chosen }, said)));
}
