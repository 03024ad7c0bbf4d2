import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from timm.models._manipulate import adapt_input_conv

from senet.blocks.aliases import ALIASES
from senet.errors import InputError
from senet.models import create_model
from senet.models.weights.convert import convert
from senet.models.weights.files import write_tensors
from senet.models.weights.layouts import from_ours
from senet.models.weights.loading import Loaded, load_weights
from senet.options import to_plain
from senet.recipes import get_recipe


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.safetensors"


def unchanged_by(net, action):
    """What is refused leaves the network as it was."""
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(InputError) as refused:
        action()
    assert "\n" not in str(refused.value)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    return str(refused.value)


def test_torchvisions_weights(tmp_path, randomise):
    theirs = randomise(torchvision.models.resnet18(num_classes=7)).eval()
    torch.save({"state_dict": {f"module.{k}": v for k, v in theirs.state_dict().items()}}, tmp_path / "w.pth")
    net = create_model("resnet18", num_classes=7).eval()
    assert load_weights(net, tmp_path / "w.pth") == Loaded(
        "senet", taken=("entry 'state_dict'", "prefix 'module.'"), classes=7
    )
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(net(x), theirs(x))


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_other_channels_by_timms_rule(path, channels):
    source = create_model("resnet18")
    save_file(source.state_dict(), path)
    net = create_model("resnet18", in_chans=channels)
    assert load_weights(net, path).adapted == ("conv1.weight",)
    assert torch.equal(net.conv1.weight, adapt_input_conv(channels, source.conv1.weight.detach()))
    assert torch.equal(net.layer1[0].conv1.weight, source.layer1[0].conv1.weight)
    if channels == 1:  # a grey image has the same value thrice
        x = torch.randn(1, 1, 32, 32)
        torch.testing.assert_close(net.conv1(x), source.conv1(x.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-5)


def test_channels_are_adapted_in_half_precision_too(path):
    save_file(create_model("resnet18").half().state_dict(), path)
    net = create_model("resnet18", in_chans=1).half()
    load_weights(net, path)
    assert net.conv1.weight.dtype == torch.float16


def test_channels_that_no_rule_knows(path):
    save_file(create_model("resnet18", in_chans=4).state_dict(), path)
    net = create_model("resnet18")
    told = unchanged_by(net, lambda: load_weights(net, path))
    how = "give in_chans=4 (only weights for 3 are adapted)"
    assert told == f"{path}: the first convolution takes 4 channels, not 3; {how}"


def test_another_classifier_is_dropped_and_the_own_one_kept(path):
    source = create_model("seresnet18")
    save_file(source.state_dict(), path)
    head = ("fc.weight", "fc.bias")
    net = create_model("seresnet18", num_classes=5)
    fresh = net.fc.weight.detach().clone()
    loaded = load_weights(net, path)
    assert loaded.dropped == head
    assert set(loaded.missing) == set(head)
    assert torch.equal(net.fc.weight, fresh)
    assert torch.equal(net.layer4[1].se.fc2.weight, source.layer4[1].se.fc2.weight)

    trunk = create_model("seresnet18", num_classes=0)
    assert load_weights(trunk, path) == Loaded("senet", dropped=head, classes=1000)

    save_file(trunk.state_dict(), path)
    loaded = load_weights(net, path)
    assert set(loaded.missing) == set(head)
    assert loaded.dropped == ()


def test_modules_for_training_only_are_dropped(path):
    theirs = torchvision.models.inception_v3(init_weights=False)
    save_file(theirs.state_dict(), path)
    loaded = load_weights(create_model("inception_v3"), path)
    assert loaded.layout == "timm"  # which has the same names
    assert set(loaded.dropped) == {key for key in theirs.state_dict() if key.startswith("AuxLogits.")}


def test_the_layout_that_is_named_counts(path):
    save_file(timm.create_model("resnet18").state_dict(), path)
    net = create_model("resnet18")
    assert load_weights(net, path, layout="torchvision").layout == "torchvision"
    told = unchanged_by(net, lambda: load_weights(net, path, layout="pytorchcv"))
    assert told.startswith(f"{path}: the tensors do not fit the network in layout 'pytorchcv': ")
    assert "missing (features.init_block.conv.bn.bias" in told


def test_half_precision_goes_into_the_networks_own(path):
    source = create_model("cifar_seresnet8").to(torch.bfloat16)
    save_file(source.state_dict(), path)
    net = create_model("cifar_seresnet8")
    load_weights(net, path)
    assert net.conv1.weight.dtype == torch.float32
    assert torch.equal(net.conv1.weight, source.conv1.weight.float())


def test_the_authors_network_in_timms_layout_is_not_another(path):
    caffe = create_model("seresnet50_caffe")
    save_file(from_ours(caffe.state_dict(), "timm-legacy", caffe), path)
    assert load_weights(create_model("seresnet50_caffe"), path).layout == "timm-legacy"
    net = create_model("seresnet50")
    told = unchanged_by(net, lambda: load_weights(net, path))
    assert "have stem_pool=ceil, stride_in=1x1" in told
    assert str(path) in told


def test_another_networks_file(path):
    save_file(create_model("resnet18").state_dict(), path)
    for name, why in (("resnet34", "80 missing"), ("seresnet18", "32 missing"), ("vgg11_bn", "names of no layout")):
        with torch.device("meta"):
            net = create_model(name)
        with pytest.raises(InputError, match=why):
            load_weights(net, path)
    save_file(create_model("cifar_resnet8").state_dict(), path)
    wide = create_model("cifar_resnet8", planes=(16, 32, 65))
    assert "of another shape" in unchanged_by(wide, lambda: load_weights(wide, path))


# --- our own files say what they are of ---


def test_a_file_of_ours_is_of_one_network_even_where_others_tensors_fit(tmp_path):
    save_file(create_model("seresnet50_caffe").state_dict(), tmp_path / "raw.safetensors")
    convert(tmp_path / "raw.safetensors", tmp_path / "ours.safetensors", "seresnet50_caffe")
    net = create_model("seresnet50")
    told = unchanged_by(net, lambda: load_weights(net, tmp_path / "ours.safetensors"))
    assert told == (
        f"{tmp_path / 'ours.safetensors'}: the weights are of 'seresnet50_caffe', another network: "
        "stride_in=1x1 instead of 3x3, stem_pool=ceil instead of padded"
    )
    other = create_model("shufflenet_g3")
    assert "of 'seresnet50_caffe', a ResNet" in unchanged_by(
        other, lambda: load_weights(other, tmp_path / "ours.safetensors")
    )
    same = create_model("seresnet50_caffe", num_classes=3, in_chans=1, drop_rate=0.2, attn_options={"reduction": 16})
    assert load_weights(same, tmp_path / "ours.safetensors").layout == "senet"


def test_a_gate_is_part_of_the_network(path):
    net = create_model("cifar_seresnet8")
    write_tensors(path, net.state_dict(), {"model": "cifar_seresnet8", "options": {"attn_options": {"gate": "tanh"}}})
    told = unchanged_by(net, lambda: load_weights(net, path))
    assert told.endswith("of 'cifar_seresnet8', another network: attn_options={'gate': 'tanh'} instead of {}")


def test_the_weights_of_a_run(path):
    recipe = to_plain(get_recipe("cifar.seresnet8"))
    source = create_model("cifar_seresnet8")
    write_tensors(path, source.state_dict(), {"recipe": recipe, "classes": ["a"]})
    net = create_model("cifar_seresnet8")
    assert load_weights(net, path) == Loaded("senet", classes=10)
    assert torch.equal(net.conv1.weight, source.conv1.weight)
    plain = create_model("cifar_resnet8")
    assert "of 'cifar_seresnet8', another network: attn=se instead of None" in unchanged_by(
        plain, lambda: load_weights(plain, path)
    )


@pytest.mark.parametrize(
    "info", [{"model": 3}, {"model": "resnet18", "options": 3}, {"recipe": {"model": {"name": []}}}]
)
def test_a_file_that_says_nonsense(path, info):
    net = create_model("cifar_seresnet8")
    write_tensors(path, net.state_dict(), info)
    assert "says in no readable way which network" in unchanged_by(net, lambda: load_weights(net, path))


def test_a_file_of_a_network_that_is_not_known(path):
    net = create_model("cifar_seresnet8")
    write_tensors(path, net.state_dict(), {"model": "cifar_seresnet9"})
    told = unchanged_by(net, lambda: load_weights(net, path))
    assert "no model is called 'cifar_seresnet9'; did you mean 'cifar_seresnet8'" in told


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("names", ALIASES)
def test_files_of_tutorials_whatever_they_call_ses_layers(path, names, linear):
    source = create_model("seresnet18")
    state = {}
    for key, value in source.state_dict().items():
        for ours, theirs in zip(("fc1", "fc2"), names, strict=True):
            key = key.replace(f".se.{ours}.", f".se.{theirs}.")
        state[key] = value.flatten(1) if linear and ".se." in key and value.ndim == 4 else value
    save_file(state, path)
    net = create_model("seresnet18")
    load_weights(net, path)
    for key, value in net.state_dict().items():
        assert torch.equal(value, source.state_dict()[key])
