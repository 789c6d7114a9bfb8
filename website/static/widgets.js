// Where RequireJS finds anywidget: beside this script. Before embed-amd, which asks for it first.
const here = document.currentScript.src.replace(/[^/]*$/, "");
require.config({ paths: { anywidget: `${here}vendor/anywidget` } });
