# The same masks from surgery maps and PAR in the place of gradient CAMs and a CRF.
_base_ = './masks_demo.py'
model = dict(
    cam=dict(type='mmtagclip.SurgeryCAM'),
    affinity=dict(box_threshold=0.79),
    post_processor=dict(_delete_=True, type='mmtagclip.PAR'),
)
