// Defines the elements of {% notifications script=False %}: bell, toasts, jobs, outputs, inbox, forms and times. Where the tag
// loads a script, that one has defined them.

import * as actions from "./modules/actions.js";
import * as bell from "./modules/bell.js";
import * as bell_color from "./modules/bell_color.js";
import * as bell_panel from "./modules/bell_panel.js";
import * as bell_place from "./modules/bell_place.js";
import * as connect from "./modules/connect.js";
import * as dom from "./modules/dom.js";
import * as forms from "./modules/forms.js";
import * as inbox from "./modules/inbox.js";
import * as inbox_list from "./modules/inbox_list.js";
import * as inbox_rows from "./modules/inbox_rows.js";
import * as inbox_search from "./modules/inbox_search.js";
import * as inbox_state from "./modules/inbox_state.js";
import * as job_element from "./modules/job_element.js";
import * as job_texts from "./modules/job_texts.js";
import * as localization from "./modules/localization.js";
import { defineElements } from "./modules/notifications.js";
import * as output_element from "./modules/output_element.js";
import * as output_reader from "./modules/output_reader.js";
import * as preferences from "./modules/preferences.js";
import * as push from "./modules/push.js";
import * as reading_pane from "./modules/reading_pane.js";
import * as row_keys from "./modules/row_keys.js";
import * as row_menu from "./modules/row_menu.js";
import * as rows from "./modules/rows.js";
import * as shortcuts from "./modules/shortcuts.js";
import * as toast_list from "./modules/toast_list.js";
import * as toasts from "./modules/toasts.js";
import { findScript, getConnection } from "./page.js";

const modules = { bell, bell_color, connect, dom, forms, localization, toasts };
const script = findScript();
if (script?.dataset.sync && !script.src) {
  const content = JSON.parse(document.getElementById("notifications-data")?.textContent ?? "");
  const loaded = {
    rows,
    row_keys,
    row_menu,
    actions,
    bell_panel,
    bell_place,
    toast_list,
    inbox,
    inbox_list,
    inbox_rows,
    inbox_search,
    inbox_state,
    preferences,
    push,
    reading_pane,
    shortcuts,
    job_element,
    job_texts,
    output_element,
    output_reader,
  };
  defineElements(modules, getConnection(), script.dataset, content, async () => loaded);
}
