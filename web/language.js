// The server says its sentences in the language of this page: that of the settings, or where the
// user never chose one, of the browser, which only the page knows.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

app.registerExtension({
  name: "kontext.language",
  async setup() {
    const locale = app.extensionManager.setting.get("Comfy.Locale");
    await api.fetchApi("/kontext/language", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ locale }),
    });
  },
});
