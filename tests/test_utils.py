from mmplugins.utils import did_you_mean


def test_near_names_are_offered_whatever_their_case():
    assert did_you_mean("Gelu", ["ReLU", "GELU"]) == " Did you mean 'GELU'?"
    assert did_you_mean("zzz", ["ReLU", "GELU"]) == ""
    offered = did_you_mean("poolfomer_s12", ["caformer_s18", "poolformer_s12"], count=2)
    assert offered.startswith(" Did you mean 'poolformer_s12'")
