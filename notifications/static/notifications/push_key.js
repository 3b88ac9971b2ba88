// Loaded by a page where the key of the site for push is another one than at this browser's last visit.

/**
 * Have the service worker subscribe anew if the subscription of this browser has another key: its push service refuses
 * messages. It is tried on each page until a page sees the new key.
 */
async function keepKey() {
  const { key, scope } = JSON.parse(document.getElementById("notifications-data")?.textContent ?? "").push;
  const registration = await navigator.serviceWorker?.getRegistration(scope);
  // Without one of its own, that of the project has the folder.
  const isOwn = registration?.scope === new URL(scope, location.href).href;
  const held = isOwn ? await registration.pushManager?.getSubscription() : null;
  const heldKey = held?.options.applicationServerKey;
  if (heldKey && encode(heldKey) !== key) registration?.active?.postMessage("keep key");
  else localStorage.setItem("notifications.push", JSON.stringify(key)); // notifications.js reads it.
}

/** @param {ArrayBuffer} key */
function encode(key) {
  const text = String.fromCharCode(...new Uint8Array(key));
  return btoa(text).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

void keepKey();

export {};
