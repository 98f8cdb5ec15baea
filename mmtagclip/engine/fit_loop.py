"""Fit a classifier of patches in closed form: one pass over unlabelled images, no gradient."""
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_gather, get_world_size, is_main_process
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, save_checkpoint
from torch.utils.data import DataLoader

from ..models.piaa import GaussianClassifier
from ..models.tagger import group_by_size
from ..registry import LOOPS
from ..version import __version__


@LOOPS.register_module()
class FitLoop(BaseLoop):
    """A train loop that fits the :class:`GaussianClassifier` of a tagger and saves it.

    The tagger may be a segmentor's. The checkpoint holds the classifier alone,
    in the model's names, so that ``tools/test.py CONFIG CHECKPOINT`` reads it;
    CLIP brings its own weights. Any number of processes gives the same.

    Args:
        runner: The runner.
        dataloader: The train data loader; its labels are not looked at.
        out_file: The checkpoint, relative to the run's working directory.

    Raises:
        TypeError: The model has no such classifier.
        ValueError: Fewer images than classes, or a sampler that repeats images.
    """

    max_epochs = 1
    epoch = 0

    def __init__(self, runner: Any, dataloader: DataLoader | dict, out_file: str = 'piaa.pth'
                 ) -> None:
        super().__init__(runner, dataloader)
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        found = [(name, part) for name, part in model.named_modules()
                 if isinstance(part, GaussianClassifier)]
        if len(found) != 1:
            raise TypeError(f'FitLoop fits the one GaussianClassifier of a tagger, but '
                            f'{type(model).__name__} has {len(found)}; give its head a scorer')
        self.model = model
        self.tagger = getattr(model, 'tagger', model)
        self.prefix, self.classifier = found[0]
        self.out_file = Path(runner.work_dir) / out_file
        images = len(self.dataloader.dataset)  # type: ignore[arg-type]
        classes = len(self.tagger.text)
        if images < classes:
            raise ValueError(f'{images} images are too few to fit {classes} classes: a classifier '
                             'needs at least as many images as classes')
        if get_world_size() > 1 and getattr(self.dataloader.sampler, 'round_up', False):
            raise ValueError('in several processes the sampler would repeat images, which count '
                             'twice then: set round_up=False in train_dataloader.sampler')
        self.iter = 0
        self.max_iters = len(self.dataloader)

    @torch.no_grad()
    def run(self) -> Any:
        """Pass over the images once, fit, save.

        Raises:
            ValueError: No image could be read, or the fit failed.
        """
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        self.model.eval()
        bank = self.classifier.bank(self.tagger.text)
        for number, batch in enumerate(self.dataloader):
            self.runner.call_hook('before_train_iter', batch_idx=number, data_batch=batch)
            data = self.model.data_preprocessor(batch)
            images = [image for image, sample in zip(data['inputs'], data['data_samples'],
                                                     strict=True)
                      if sample.get('load_error') is None]
            for group in group_by_size(images):
                features = self.tagger.encoder(torch.stack([images[index] for index in group]))
                bank.add(features.patches.flatten(0, 1))
            self.iter += 1
            self.runner.call_hook('after_train_iter', batch_idx=number, data_batch=batch)
        self._gather(bank)
        for note in self.classifier.fit(bank):
            self.runner.logger.warning(f'Classes that {note}')
        if is_main_process():
            state = {f'{self.prefix}.{key}': value.cpu()
                     for key, value in self.classifier.state_dict().items()}
            meta = {'mmtagclip_version': __version__, **self.classifier.belongs_to}
            save_checkpoint({'meta': meta, 'state_dict': state}, str(self.out_file))
            self.runner.logger.info(f'Saved the classifier as {self.out_file}')
        self.runner.call_hook('after_train')
        return self.runner.model

    def _gather(self, bank: Any) -> None:
        """Bring the banks of all processes together."""
        if get_world_size() == 1:
            return
        parts = [all_gather(one) for one in (bank.features, bank.probabilities, bank.entropies)]
        bank.entropies.fill_(torch.inf)
        for part in zip(*parts, strict=True):  # in the order of the processes, in all of them
            bank.merge(*part)
