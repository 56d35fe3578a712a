// The orders of videos and hits.

import { divider } from "./cards.js";
import { at, make } from "./elements.js";

const ORDERS = { name: "name", newest: "newest first", oldest: "oldest first", longest: "longest first", shortest: "shortest first" };
const FIELDS = { newest: ["date", -1], oldest: ["date", 1], longest: ["duration", -1], shortest: ["duration", 1], name: ["title", 1] };
const WEAK = "Weak matches: sentences about anything else reach as much here.";

export function showSorting({ sort }, asked) {
  const orders = Object.entries(ORDERS);
  const options = asked ? [["", "best match"], ...orders] : [["", ORDERS.name], ...orders.slice(1)];
  at("sort").replaceChildren(...options.map(([value, said]) => make("option", { value, selected: value === sort }, said)));
}

// The cards of hits, which come with theirs and the best first, in an order; what is not known of a hit comes last.
export function arrange(found, sort) {
  const cards = (some) => some.map(([, card]) => card);
  const [field, sign] = FIELDS[sort] ?? [];
  if (field) {
    const compare = (one, other) => (typeof one === "string" ? one.localeCompare(other) : one - other);
    const isKnown = ([hit]) => hit[field] !== null;
    const inOrder = found.filter(isKnown).sort(([one], [other]) => sign * compare(one[field], other[field]));
    return cards([...inOrder, ...found.filter((one) => !isKnown(one))]);
  }
  // Where the best hit is weak, a line above the list says so.
  const weakFrom = found.findLastIndex(([hit]) => !hit.weak) + 1;
  const items = cards(found);
  if (weakFrom > 0 && weakFrom < found.length) items.splice(weakFrom, 0, divider(WEAK));
  return items;
}
