_base_ = [
    './proxyclip_vit-base-p16_openai_cocostuff171.py',
    '../_base_/models/tagger_vit-base-p16_openai.py',
]
# Only classes that TagCLIP tags the image with are looked for.
tagger = _base_.tagger
tagger.update(classes='cocostuff')
tagger.head.update(threshold=0.1)
tagger.head.dmar.update(layers=(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10))
tagger.head.cwr.update(threshold=0.1)
model = dict(tags='own', tagger=tagger)
