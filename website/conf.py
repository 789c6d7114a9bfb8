"""Sphinx reads this: what the pages are made of and how they look. build.py calls it."""

project = "Diffusion models, from noise to digits"
html_title = project
language = "en"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"
nb_render_markdown_format = "myst"
html_theme = "sphinx_book_theme"
html_static_path = ["build/source/_static"]
html_favicon = "build/source/_static/favicon.svg"
html_css_files = ["lab/lab.css", "site.css"]
# embed-amd asks RequireJS for anywidget, which widgets.js has told it where to find.
nb_ipywidgets_js = {"vendor/require.js": {}, "widgets.js": {}, "vendor/embed-amd.js": {}}
mathjax_path = "vendor/mathjax/tex-mml-chtml.js"
html_theme_options = {
    "show_toc_level": 2,
    "use_download_button": False,
    "navigation_with_keys": False,
    "navbar_persistent": [],
    "article_header_end": ["article-header-buttons"],
}
html_context = {"default_mode": "auto"}
html_copy_source = False
html_show_sourcelink = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
suppress_warnings = ["myst.header", "myst.xref_missing", "mystnb.unknown_mime_type"]
