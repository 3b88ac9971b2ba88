// The samples of forms on the page /style/ are not sent.
document.addEventListener("submit", (event) => event.preventDefault());
