// Where one is, as the page's address: a link to it shows the same, and the back button goes back.

const NAMES = ["q", "like", "t", "where", "video", "at"];

export function placeOf(search) {
  const query = new URLSearchParams(search);
  return Object.fromEntries(NAMES.map((name) => [name, query.get(name) ?? ""]));
}

export const here = () => placeOf(location.search);

export function address(place) {
  const query = new URLSearchParams(NAMES.filter((name) => place[name]).map((name) => [name, place[name]]));
  return query.size ? `?${query}` : location.pathname;
}

export const questionOf = ({ q, like, t, where }) => ({ q: q.trim(), like, t: like ? t || "0" : "", where: where.trim(), video: "", at: "" });
export const watching = (place, video, seconds) => ({ ...questionOf(place), video, at: seconds ? seconds.toFixed(2) : "" });
export const conditionsOf = (where) => where.split(";").map((one) => one.trim()).filter(Boolean);
