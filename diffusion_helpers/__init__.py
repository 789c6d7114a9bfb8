"""Small, readable diffusion models: the code behind the notebooks.

Each room is one module: ``schedules``, ``denoise``, ``samplers``, ``edits``, ``unet``, ``train``,
``weights``, ``recipes``, ``data``, ``cells``, ``metrics``, ``evaluate``, ``plots``, ``widgets``, ``checks``.
"""
