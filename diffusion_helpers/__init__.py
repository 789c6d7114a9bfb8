"""Small, readable diffusion models: the code behind the notebooks.

The core: ``schedules``, ``denoise``, ``samplers``, ``edits``, ``unet``, ``train`` and ``weights``, on images from ``data``.
Beside it: ``bench`` measures models and holds their recipes, ``lessons`` has the plots, widgets and checks of the lessons.
"""
