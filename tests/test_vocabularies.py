"""No word of a published list changes unseen."""

import hashlib
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / 'mmtagclip/vocabularies'
# List, lines, SHA-256 of the lines (its first 12 digits), whose words they are. A digest changes
# only with a reason in the published program: then say it in the commit.
LISTS = """
ade20k                         150 f9dbd8a75a07 MMSegmentation
cityscapes                      19 6f6782fc1bf9 SCLIP
coco                            80 33c77761e124 TagCLIP
coco_background                 23 3a62a50fccc5 TagCLIP
coco_clsseg                     80 24bcc71708a3 CLS-SEG
coco_values                     80 cebd51e97e4e the data set
cocostuff                      171 6c6765609e0e TagCLIP
cocostuff27                     27 787105e7b08b the data set
cocostuff_clsseg               171 fe0105f5fa90 CLS-SEG
cocostuff_clsseg_background      1 89b91df19d9d CLS-SEG
cocostuff_groups               171 a438a500d166 the data set
cocostuff_values               171 0eb1c1e3c9c9 the data set
nus_wide                        81 454b64867733 NUS-WIDE
pascal_context                  59 cd808465f06a MMSegmentation
seg_ade20k                     150 e53ded02c488 SCLIP
seg_cityscapes_itaclip          19 75773bc7fa5c ITACLIP
seg_coco                        80 823efabb8d14 SCLIP
seg_coco_background             25 a55a8aaf3b77 SCLIP
seg_coco_background_proxyclip   16 8786029bfc59 ProxyCLIP
seg_coco_itaclip                80 5dcff91d8277 ITACLIP
seg_coco_plain                  80 d7654b261015 ProxyCLIP
seg_cocostuff                  171 fb98709b9ab1 SCLIP
seg_cocostuff_itaclip          171 c7a8610f3315 ITACLIP
seg_pascal_context_itaclip      59 b2b87f8244ee ITACLIP
seg_voc                         20 c68f65a2b342 SCLIP
seg_voc_background              26 bcfdf1a3178c SCLIP
seg_voc_background_itaclip      44 42946fa85c63 ITACLIP
seg_voc_itaclip                 20 c56473292d16 ITACLIP
seg_voc_plain                   20 6b9a85ffb907 ClearCLIP
templates_80                    80 4f976686fb65 OpenAI
templates_85                    85 f87d863dc7a9 CLIP Surgery
templates_origami                1 2ea17d1fd7c5 CLS-SEG
templates_photo                  1 e8e367e769f8 the data set
voc                             20 7d877f185c80 the data set
voc_background                  25 bb063b8a0aaa TagCLIP
voc_clsseg                      20 e5593476e96b CLS-SEG
"""
ROWS = [line.split(maxsplit=3) for line in LISTS.strip().splitlines()]


def lines_of(name):
    lines = (FOLDER / f'{name}.txt').read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith('#')]


def test_every_list_is_here():
    assert [name for name, *_ in ROWS] == sorted(path.stem for path in FOLDER.glob('*.txt'))


@pytest.mark.parametrize('name, count, digest, source', ROWS)
def test_words_are_the_published_ones(name, count, digest, source):
    lines = lines_of(name)
    assert len(lines) == int(count)
    assert hashlib.sha256('\n'.join(lines).encode()).hexdigest()[:12] == digest, source
