"""How good is a set of samples? Distances between sets of images, in the features of a classifier.

No number here means much alone. ``report`` gives each with what it takes to read it: N, the feature network,
an error bar, and the floor: the same measure of N real images in place of the samples.

- Reference: the test images, which no network was trained on.
- Floor of a measure that compares with the reference (FID, KID, precision, recall, density, coverage): N training
  images. This is what a perfect sampler of the training set would score; a copy of it scores the same, which is
  what ``nearest`` is for. Floor of a measure of the samples alone (Inception score, label agreement, nearest
  training image): N test images.
- Samples that were made with labels are measured against a floor of real images with the same labels. Their numbers
  per class are given, not left to chance: 500 digits drawn at random have 1.4 times the FID of 50 of each, a floor
  that would flatter.
- Error bar: one standard deviation over random halves of the samples, drawn without replacement (half of each label,
  if they have labels), with the reference fixed. For a mean, a half drawn from N varies by sigma / sqrt(N), which is
  the standard error of the whole; and no image comes twice, which would spoil every nearest-neighbour measure. Against
  20 separate sets of 1000 real digits, 100 of each, it was 0.68 to 1.40 times their deviation for every measure
  (tools/measure_error_bars.py). Without labels, the bars of FID, KID and coverage close to their floor were up to 2.5
  times too wide. The bar of a floor is the deviation over separate sets of real images.

What has no meaning is a ValueError: NaN, pixels outside [-1, 1], shapes that do not match, too few images.
What has one that is easily misread is a warning: copies within a set, no pixel below 0 (images in [0, 1]?),
and FID from no more images than features.
"""

from .features import Features, extract
from .measures import fid, frechet, gaussian, inception_score, kid, label_agreement, nearest, neighbourhoods
from .summary import Result, report
