// The samples of forms on the page /style/ are not sent.
document.addEventListener("submit", (event) => event.preventDefault());
// Two rows of the inbox are selected.
for (const box of [...document.querySelectorAll(".notifications-page [name=id]")].slice(1, 3))
  box.checked = true;

// The switches of the page: a look of the documentation, the contrast, and the direction of the text.
const root = document.documentElement;
const direction = root.dir;
document.querySelector(".switches").hidden = false;
for (const select of document.querySelectorAll(".switches select")) {
  const show = () => {
    if (select.name === "dir") root.dir = select.value || direction;
    else if (select.value) root.dataset[select.name] = select.value;
    else delete root.dataset[select.name];
  };
  select.addEventListener("change", show);
  show(); // The browser may have kept the choice over a reload.
}
