"use strict";
// The page's scripts lie in it compressed, as the trial does. The policy knows the hash of what comes out.
async function unpacked(id) {
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (c) => c.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).text();
}
unpacked("script").then((text) => {
  const script = document.createElement("script");
  script.textContent = text;
  document.body.append(script);
});
