"""The paper's ablations (arXiv 1709.01507v4, Sec. 6): SE-ResNet-50 without biases in SE's layers, label smoothing.

One server of eight GPUs; rate 0.1, a tenth of it when the validation loss is on a plateau, three times, about 300
epochs in all; or, by footnote 2, a tenth of it after 125, 200 and 250 of 270 epochs. Every row of Tables 10 to 16 is
one of these trainings with one option changed.

Left open: the batch, here 256 as in the authors' other trainings on such a server, and the amount of label smoothing,
here 0.1 as in arXiv 1512.00567. Differs from the paper: the rate may drop more than three times within the 300 epochs.
"""

from __future__ import annotations

from dataclasses import replace

from senet.recipes.imagenet.common import DATA, EIGHT_GPUS, PLATEAU, with_se
from senet.train.recipe import Loss, Model, Optim, Recipe, Schedule

__all__ = ["resnet50_ablation", "resnet50_ablation270", "seresnet50_ablation", "seresnet50_ablation270"]

_FIXED = Schedule("step", epochs=270, milestones=(125 / 270, 200 / 270, 250 / 270))
_NO_BIASES = {"attn_options": {"bias": False}}


def resnet50_ablation() -> Recipe:
    """ResNet-50 as in the paper's ablations.

    Published: 23.30 / 6.55 % top-1 / top-5 error (arXiv 1709.01507v4, Table 16).
    Command: ``senet train imagenet.resnet50_ablation --data DIR --out runs/resnet50_ablation``
    """
    return Recipe(
        "imagenet.resnet50_ablation",
        Model("resnet50_caffe"),
        DATA,
        Optim(lr=0.1, weight_decay=1e-4),
        PLATEAU,
        loss=Loss(label_smoothing=0.1),
        run=EIGHT_GPUS,
    )


def seresnet50_ablation() -> Recipe:
    """SE-ResNet-50 as in the paper's ablations; each of their rows is this recipe with one option.

    Published: 22.28 / 6.03 % top-1 / top-5 error (arXiv 1709.01507v4, Table 16).
    Command: ``senet train imagenet.seresnet50_ablation --data DIR --out runs/seresnet50_ablation``

    The other rows, by what to add to the command:

        Table 10, r = 2: --set model.options.attn_options.reduction=2
        Table 10, r = 4: --set model.options.attn_options.reduction=4
        Table 10, r = 8: --set model.options.attn_options.reduction=8
        Table 10, r = 32: --set model.options.attn_options.reduction=32
        Table 11, Max: --set model.options.attn_options.squeeze=max
        Table 12, ReLU: --set model.options.attn_options.gate=relu
        Table 12, Tanh: --set model.options.attn_options.gate=tanh
        Table 13, SE_Stage_2: --set 'model.options.stages=[2]'
        Table 13, SE_Stage_3: --set 'model.options.stages=[3]'
        Table 13, SE_Stage_4: --set 'model.options.stages=[4]'
        Table 14, SE-PRE: --set model.options.placement=pre
        Table 14, SE-POST: --set model.options.placement=post
        Table 14, SE-Identity: --set model.options.placement=identity
        Table 15, SE_3x3: --set model.options.placement=3x3
        Table 16, NoSqueeze: --set model.options.attn_options.squeeze=none
    """
    return _without_biases(with_se(resnet50_ablation()))


def resnet50_ablation270() -> Recipe:
    """ResNet-50 as in the paper's ablations, with the fixed schedule of its footnote 2.

    Published: 23.21 / 6.53 % top-1 / top-5 error (arXiv 1709.01507v4, footnote 2).
    Command: ``senet train imagenet.resnet50_ablation270 --data DIR --out runs/resnet50_ablation270``
    """
    return replace(resnet50_ablation(), name="imagenet.resnet50_ablation270", schedule=_FIXED)


def seresnet50_ablation270() -> Recipe:
    """SE-ResNet-50 as in the paper's ablations, with the fixed schedule of its footnote 2.

    Takes the options of :func:`seresnet50_ablation`.

    Published: 22.20 / 6.00 % top-1 / top-5 error (arXiv 1709.01507v4, footnote 2).
    Command: ``senet train imagenet.seresnet50_ablation270 --data DIR --out runs/seresnet50_ablation270``
    """
    return _without_biases(with_se(resnet50_ablation270()))


def _without_biases(recipe: Recipe) -> Recipe:
    return replace(recipe, model=replace(recipe.model, options=_NO_BIASES))
