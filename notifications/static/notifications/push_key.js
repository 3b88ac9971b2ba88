// Loaded by a page where the key of the site for push is another one than at this browser's last visit.

/**
 * Have the service worker subscribe anew if the subscription of this browser has another key: its push service refuses
 * messages. It is tried on each page until the server knows the new subscription.
 */
async function keepKey() {
  const { key, scope } = JSON.parse(document.getElementById("notifications-data")?.textContent ?? "").push;
  const registration = await navigator.serviceWorker?.getRegistration(scope);
  // Without one of its own, that of the project has the folder.
  const isOwn = registration?.scope === new URL(scope, location.href).href;
  const held = isOwn ? await registration.pushManager?.getSubscription() : null;
  const heldKey = held?.options.applicationServerKey;
  const isOther = heldKey && encode(heldKey) !== key;
  const replaces = readStored()?.replaces ?? (isOther ? held.endpoint : "");
  if (!isOwn || !replaces) return store(key);
  // Until the worker answers with the key of what the server has stored. Each page tries it again.
  store({ replaces });
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = ({ data }) => store(data);
  registration.active?.postMessage({ replaces }, [port2]);
}

/** Return what store() has written in this browser, or null. */
function readStored() {
  try {
    return JSON.parse(localStorage.getItem("notifications.push") ?? "null");
  } catch {
    return null;
  }
}

/**
 * Store the key, which notifications.js reads too, or what is replaced.
 * @param {unknown} value
 */
function store(value) {
  try {
    localStorage.setItem("notifications.push", JSON.stringify(value));
  } catch {
    // It is tried on each page.
  }
}

/** @param {ArrayBuffer} key */
function encode(key) {
  const text = String.fromCharCode(...new Uint8Array(key));
  return btoa(text).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

void keepKey();

export {};
