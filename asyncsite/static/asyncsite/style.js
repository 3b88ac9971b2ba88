// The samples of forms on the page /style/ are not sent.
document.addEventListener("submit", (event) => event.preventDefault());
// Two rows of the inbox are selected.
for (const box of [...document.querySelectorAll(".notifications-page [name=id]")].slice(1, 3))
  box.checked = true;
// Regions have different names.
document.querySelector(".outage .running").ariaLabel += ", server away";
