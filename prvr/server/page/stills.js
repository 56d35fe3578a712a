// The frame of a second of a video. One picture is loaded at a time; of what is wanted meanwhile, only the last is loaded next.

import { pictureOf } from "./service.js";

const MOST = 60;
const kept = new Map();
let wish = null;
let busy = false;

// Calls `show` with the image of a second, unless another one is wanted before it is there.
export function wantStill(video, seconds, show) {
  wish = { address: pictureOf(video, Math.floor(seconds)), show };
  fulfil();
}

export function forgetStill() {
  wish = null;
}

async function fulfil() {
  if (!wish || busy) return;
  const { address, show } = wish;
  if (!kept.has(address)) {
    busy = true;
    const image = new Image();
    image.src = address;
    const there = await image.decode().then(() => true, () => false);
    busy = false;
    if (there) keep(address, image);
    else if (wish?.address === address) wish = null;
    return fulfil();
  }
  const image = kept.get(address);
  keep(address, image);
  wish = null;
  show(image);
}

// The least recently wanted is dropped.
function keep(address, image) {
  kept.delete(address);
  kept.set(address, image);
  if (kept.size > MOST) kept.delete(kept.keys().next().value);
}
