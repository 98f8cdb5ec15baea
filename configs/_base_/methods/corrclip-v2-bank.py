# CorrCLIP's second version with its memory bank: half of the cosines are those of the 20 regions of
# other images that are most alike. mmtagclip bank makes the file; published: of COCO's train2017.
_base_ = './corrclip-v2.py'
model = dict(
    cosine_processor=dict(
        type='mmtagclip.BankProcessor', bank='data/coco/bank.safetensors', neighbours=20, weight=0.5
    ),
)
