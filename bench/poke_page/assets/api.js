// Talks to the server. Every failure becomes an Error with one sentence for the reader.

async function checked(request) {
  let response;
  try {
    response = await request;
  } catch {
    throw new Error("The server does not answer; is `bench poke` still running?");
  }
  if (response.ok) return response;
  const told = await response.json().catch(() => ({ error: `The server answered with status ${response.status}.` }));
  throw Object.assign(new Error(told.error), { crop: told.crop });
}

/** Methods, pictures, size. */
export async function openPage() {
  return (await checked(fetch("/api/page"))).json();
}

/** The address of a picture. */
export function pictureAddress(key) {
  return `/api/scenes/${encodeURIComponent(key)}.png`;
}

/** The pixels at an address, as an ImageBitmap. */
export async function bitmap(address) {
  const blob = await (await checked(fetch(address))).blob();
  return createImageBitmap(blob);
}

/** Sends a picture; `crop`: its middle square may be taken. */
export async function upload(file, crop) {
  const headers = { "Content-Type": file.type || "application/octet-stream" };
  return (await checked(fetch(`/api/uploads?crop=${crop}`, { method: "POST", body: file, headers }))).json();
}

/** One poke, one prediction: {key, frames, seconds, note, strip}, the strip an ImageBitmap of x0..xT below each other. */
export async function ask(method, scene, poke, seed) {
  const asked = { method, scene, location: [poke.x, poke.y], displacement: [poke.dx, poke.dy], seed };
  const headers = { "Content-Type": "application/json" };
  const response = await checked(fetch("/api/answers", { method: "POST", body: JSON.stringify(asked), headers }));
  const answer = await response.json();
  return { ...answer, strip: await bitmap(`/api/answers/${answer.key}.png`) };
}

/** A file to keep: its bytes and its name. */
export async function clip(key, form, options) {
  const response = await checked(fetch(`/api/answers/${key}/clip.${form}?${new URLSearchParams(options)}`));
  const name = /filename="([^"]+)"/.exec(response.headers.get("Content-Disposition"))[1];
  return { name, blob: await response.blob() };
}
