"""The lessons' kit: figures, sliders and a drawing pad, and the checks of the exercises."""
