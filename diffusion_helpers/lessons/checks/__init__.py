"""The learner's checks, ``checks.NAME(answer)``: is this answer right, and if not, which known mistake is it?

A check prints one line that says what was established, or raises ``Mistake`` with one hint. ``engine`` compares;
there is a file for each lesson, with the right answer, the cases and the known mistakes of each of its exercises.
"""

from .engine import Check, Mistake
from .lesson01 import alpha_bar, chain_step, forward_step, jump_between, last_beta, signal_left
from .lesson02 import best_constant, best_line, denoising_loss, exact_denoiser
from .lesson03 import ddpm_loss, residual_block, tweedie
from .lesson03_walk import ancestral, bound_weight, posterior, three_bugs
from .lesson04 import but_not, drop_labels, guided_eps, guided_walk, two_widths
from .lesson05 import copied_share, frechet, limit_of_many, one_sided, pairing
from .lesson06 import ddim_step, heun_step, order_of_convergence, strided_posterior
from .lesson07 import edit_start, fill_loop, keep_known, near_and_far, two_views, view
from .lesson08 import convert, euler_walk, flow_loss, loss_weight
from .lesson09 import ema_step, even_weights, huber, limited
from .lesson10 import apart, attend, both
