"""Small, readable diffusion models: the code behind the notebooks.

Each room is one module: ``schedules``, ``denoise``, ``samplers``, ``edits``, ``unet``, ``train``,
``weights``, ``data``, ``plots``, ``widgets``, ``checks``.
"""
