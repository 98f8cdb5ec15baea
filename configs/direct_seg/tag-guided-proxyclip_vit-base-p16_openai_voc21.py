_base_ = [
    './proxyclip_vit-base-p16_openai_voc21.py',
    '../_base_/models/tagger_vit-base-p16_openai.py',
]
# Only classes that TagCLIP tags the image with are looked for.
tagger = _base_.tagger
tagger.update(classes='voc', background='voc_background')
model = dict(tags='own', tagger=tagger)
