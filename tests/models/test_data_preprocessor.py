"""Images to the encoder's input: the plain formula, each image at its own size."""

import pytest
import torch

from mmtagclip.models.data_preprocessor import CLIPDataPreprocessor

MEAN, STD = (0.1, 0.4, 0.7), (0.5, 0.25, 0.2)


def expected(image, mean=MEAN, std=STD):
    rows = [(image[i].double() / 255 - mean[i]) / std[i] for i in range(3)]
    return torch.stack(rows).float()


@pytest.mark.parametrize('to_rgb', [True, False])
def test_images_are_normalised_in_rgb(to_rgb):
    torch.manual_seed(0)
    images = [torch.randint(256, (3, *size), dtype=torch.uint8) for size in ((4, 5), (1, 7))]
    data = CLIPDataPreprocessor(MEAN, STD, to_rgb)({'inputs': images, 'data_samples': ['a', 'b']})
    assert data['data_samples'] == ['a', 'b']
    for image, got in zip(images, data['inputs'], strict=True):
        rgb = image.flip(0) if to_rgb else image
        torch.testing.assert_close(got, expected(rgb), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize('given', [{}, {'mean': MEAN}, {'std': STD}, {'mean': MEAN, 'std': STD}])
def test_only_what_was_left_open_is_completed(given):
    image = torch.arange(24, dtype=torch.uint8).reshape(3, 2, 4)
    part = CLIPDataPreprocessor(**given, to_rgb=False)
    if len(given) < 2:
        with pytest.raises(ValueError, match='does not know the normalisation of the model'):
            part.normalise(image)
    theirs = {'mean': (0.2, 0.3, 0.5), 'std': (1.0, 2.0, 4.0)}
    part.complete(**theirs)
    torch.testing.assert_close(part.normalise(image), expected(image, **{**theirs, **given}))
    assert part.state_dict() == {}
