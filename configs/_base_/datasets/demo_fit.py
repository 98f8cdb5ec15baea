_base_ = './demo_test.py'
# Fitted to the test scenes themselves, whose labels are not looked at: there
# are no others here.
train_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=_base_.test_dataloader.dataset,
)
