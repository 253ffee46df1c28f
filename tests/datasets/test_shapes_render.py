import numpy as np
import pytest

from mmplugins.datasets.shapes_render import CLASSES, MIN_VISIBLE, SIZE_RANGE, render_image


@pytest.fixture(scope="module")
def drawn():
    return [render_image(np.random.default_rng([1, k]), 128) for k in range(150)]


@pytest.fixture(scope="module")
def objects(drawn):
    return [one for _, all_of in drawn for one in all_of]


def test_every_class_has_a_form_and_a_texture_of_its_own():
    assert len(CLASSES) == 4
    assert len({c.form for c in CLASSES}) == len({c.texture for c in CLASSES}) == 4


def test_same_generator_same_picture_other_generator_other_picture():
    first, second, other = (render_image(np.random.default_rng(s), 96) for s in (5, 5, 6))
    assert np.array_equal(first[0], second[0])
    assert [o.polygons for o in first[1]] == [o.polygons for o in second[1]]
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize("side", [64, 97, 256])
def test_any_side(side):
    picture, objects = render_image(np.random.default_rng(0), side)
    assert picture.shape == (side, side, 3) and picture.dtype == np.uint8
    assert objects and all(o.mask.shape == (side, side) for o in objects)


def test_every_class_occurs_about_equally(objects):
    counts = np.bincount([o.label for o in objects], minlength=len(CLASSES))
    assert counts.min() > 0.6 * counts.mean()


def test_sizes_fill_two_octaves(objects):
    sizes = np.log2([o.size / 128 for o in objects])
    low, high = np.log2(SIZE_RANGE)
    assert high - low == 2
    assert sizes.min() >= low and sizes.max() <= high
    # Each of the four half octaves holds its share; crowded images turn large objects away.
    assert np.histogram(sizes, 4, (low, high))[0].min() > 0.1 * len(sizes)


def test_disc_areas_follow_the_formula_of_the_ellipse(objects):
    for one in objects:
        if CLASSES[one.label].form == "disc":
            squeeze = one.full_area / (np.pi / 4 * one.size**2)
            assert 0.74 < squeeze < 1.01


def test_an_object_shows_enough_and_never_more_than_its_form(objects):
    shares = np.array([o.mask.sum() / o.full_area for o in objects])
    # Masks count whole pixels and outlines are simplified, which moves small objects a little.
    assert shares.min() > MIN_VISIBLE - 0.05 and shares.max() < 1.12
    assert (shares < 0.9).mean() > 0.1  # overlap and the border do hide something
    assert abs(np.median(shares[shares > 0.97]) - 1) < 0.02


def test_masks_of_one_picture_share_no_more_than_edges(drawn):
    for _, all_of in drawn:
        claims = sum(o.mask.astype(int) for o in all_of)
        assert (claims > 1).sum() <= 0.03 * max((claims > 0).sum(), 1)


def test_rings_have_holes(objects):
    rings = [o for o in objects if CLASSES[o.label].form == "ring"]
    whole = [o for o in rings if o.mask.sum() > 0.95 * o.full_area]
    assert whole
    for ring in whole:
        rows, columns = np.nonzero(ring.mask)
        box = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        # A ring of half the radius inside covers 3/4 of its ellipse, an ellipse <= pi/4 of its box.
        assert ring.mask.sum() / box < np.pi / 4 * 0.75 + 0.06


def test_masks_lie_on_the_textured_pixels(drawn):
    inside, outside = [], []
    for picture, all_of in drawn:
        luma = picture.astype(float).mean(-1)
        ground = ~np.any([o.mask for o in all_of], axis=0)
        outside.append(luma[ground].std())
        inside += [luma[o.mask].std() for o in all_of if CLASSES[o.label].texture != "shading"]
    assert np.median(inside) > 2 * np.median(outside)


def test_colour_does_not_give_the_class_away(drawn):
    labels, colours = [], []
    for picture, all_of in drawn:
        for one in all_of:
            labels.append(one.label)
            colours.append(picture[one.mask].mean(0))
    labels, colours = np.array(labels), np.array(colours)
    for label in range(len(CLASSES)):
        own, rest = colours[labels == label], colours[labels != label]
        error = np.sqrt(own.var(0) / len(own) + rest.var(0) / len(rest))
        assert (np.abs(own.mean(0) - rest.mean(0)) < 4 * error).all()
