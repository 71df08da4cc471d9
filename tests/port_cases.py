"""The networks of ``port_zoo``: their arguments, inputs and expected results."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "port_zoo"


@dataclass(frozen=True)
class Case:
    """A network.

    Attributes:
        target: the file and class of the network, or a function that creates it.
        inputs: in the format of ``jaxnets port --input``.
        args: arguments of the class.
        refused: part of the expected error; empty for a network that is ported.
        eager: whether control flow depends on the data, so that ``jax.jit`` cannot trace it.
        built: whether a network object is ported, instead of its class.
    """

    target: str
    inputs: tuple[str, ...]
    args: dict[str, Any] = field(default_factory=dict)
    refused: str = ""
    eager: bool = False
    built: bool = False

    @property
    def path(self) -> Path:
        """The file."""
        return FOLDER / self.target.partition(":")[0]

    @property
    def name(self) -> str:
        """The class or function."""
        return self.target.partition(":")[2]

    def __str__(self) -> str:
        words = [f"{key}={value}" for key, value in self.args.items()]
        return ",".join([self.target, *words, *(["built"] if self.built else [])])


IMAGE, GRAY = "2x3x16x16", "2x1x16x16"

CASES = [
    Case("lenet.py:LeNet", ("2x1x28x28",)),
    Case("mnist_net.py:Net", ("3x1x16x16",)),
    Case("resnet.py:resnet_small", (IMAGE,)),
    Case("resnet.py:resnet_bottleneck", (IMAGE,)),
    Case("cifar_resnet.py:CifarResNet", (IMAGE,)),
    Case("cifar_resnet.py:CifarResNet", (IMAGE,), {"option": "B"}),
    Case("unet.py:UNet", ("2x3x8x8",)),
    Case("unet_bilinear.py:UNet", ("2x3x9x11",)),
    Case("unet_bilinear.py:UNet", ("2x3x9x11",), {"bilinear": False}),
    Case("unet_bilinear.py:CroppedUNet", ("2x1x14x14",)),
    Case("vgg.py:VGG", (IMAGE,), {"vgg_name": "A"}),
    Case("vgg.py:vgg", (IMAGE,)),
    Case("mobilenet.py:MobileNetV2", (IMAGE,)),
    Case("mobilenet.py:MobileNetV3", (IMAGE,)),
    Case("densenet.py:DenseNet", ("2x3x10x10",)),
    Case("densenet.py:DenseNet", ("2x3x10x10",), {"drop_rate": 0.2}),
    Case("shufflenet.py:ShuffleNetV2", (IMAGE,)),
    Case("shufflenet.py:ShiftNet", ("2x3x5x6",)),
    Case("pointnet.py:PointNetCls", ("3x3x7",)),
    Case("pointnet.py:PointNetCls", ("3x3x7",), {"feature_transform": True}),
    Case("dcgan.py:Generator", ("3x8x1x1",)),
    Case("dcgan.py:Discriminator", (IMAGE,)),
    Case("dcgan.py:MLPGenerator", ("3x8",)),
    Case("vae.py:VAE", ("2x1x8x8",)),
    Case("vae.py:ConvVAE", ("2x1x8x8",)),
    Case("siamese.py:SiameseNetwork", ("2x1x6x6", "2x1x6x6")),
    Case("siamese.py:MatchingNetwork", ("3x6", "3x6")),
    Case("text_lstm.py:LSTMClassifier", ("2x7:int64",)),
    Case("text_lstm.py:BiLSTM", ("7x2:int64",)),
    Case("text_lstm.py:PackedLSTM", ("4x6:int64", "[6, 4, 3, 1]")),
    Case("text_lstm.py:ImageRows", ("3x5x8",)),
    Case("seq2seq.py:Seq2Seq", ("2x6:int64",)),
    Case("seq2seq.py:Seq2Seq", ("2x6:int64", "2x5:int64")),
    Case("word_lm.py:RecurrentLM", ("6x2:int64",), {"tied": True}),
    Case("word_lm.py:RecurrentLM", ("6x2:int64", "2x2x8"), {"kind": "GRU"}),
    Case("word_lm.py:RecurrentLM", ("6x2:int64",), {"kind": "RELU", "layers": 1, "dropout": 0}),
    Case("word_lm.py:AttentionLM", ("6x2:int64",)),
    Case("gpt.py:GPT", ("2x6:int64",)),
    Case("gpt.py:GPT", ("2x6:int64", "2x6:int64")),
    Case("gpt.py:gpt_fused", ("2x6:int64",)),
    Case("bigram.py:CharacterModel", ("2x6:int64",)),
    Case("llama.py:Decoder", ("2x6:int64",)),
    Case("changed.py:Changed", ("3x6",)),
    Case("orders.py:ConvLSTM", ("2x3x1x5x6",)),
    Case("orders.py:Keywords", ("2x9x8",)),
    Case("orders.py:Mixer", (IMAGE,)),
    Case("orders.py:TimeFirst", ("2x7x5",)),
    Case("orders.py:Pooled", ("2x4x8",)),
    Case("vit.py:VisionTransformer", (IMAGE,)),
    Case("vit.py:VisionTransformer", (IMAGE,), {"drop_path_rate": 0.1}),
    Case("vit.py:SimpleViT", ("2x3x8x12",)),
    Case("transformer.py:TransformerClassifier", ("2x6:int64",)),
    Case("transformer.py:Translator", ("6x2:int64", "5x2:int64:18")),
    Case("transformer.py:CrossAttention", ("2x4x8", "2x5x6")),
    Case("einops_nets.py:Patches", ("2x3x16x16",)),
    Case("aliases.py:SecondName", ("2x3",), refused="x changes with y, as both have the same"),
    Case("aliases.py:View", ("2x3",), refused="x changes with flat, as both have the same"),
    Case("aliases.py:Copies", ("2x3",)),
    Case("habits.py:Closures", ("3x6",)),
    Case("habits.py:FrozenEmbedding", ("2x7:int64:9",)),
    Case("habits.py:Habits", ("2x3x6x5",)),
    Case("wavenet.py:WaveNet", ("2x1x20",)),
    Case("wavenet.py:GLUEncoder", ("2x7:int64",)),
    Case("tcn.py:TCN", ("2x3x12",)),
    Case("cells.py:SineSequence", ("3x4",)),
    Case("cells.py:GRUSteps", ("2x3x4",)),
    Case("cells.py:OwnRNN", ("2x6", "2x5")),
    Case("containers.py:Containers", ("3x6",)),
    Case("containers.py:RunningMean", ("3x5",)),
    Case("containers.py:Codebook", ("2x3x4",)),
    Case("normed.py:SNDiscriminator", ("2x3x8x8",)),
    Case("normed.py:WeightNormedMLP", ("3x6",)),
    Case("normed.py:OlderSpectralNorm", ("3x4",)),
    Case("normed.py:NormZoo", ("2x3x6x6",)),
    Case("inception.py:InceptionNet", (IMAGE,)),
    Case("attention_blocks.py:CBAMNet", ("2x3x6x5",)),
    Case("attention_blocks.py:NonLocal", ("2x8x4x5",)),
    Case("film.py:ConditionedNet", ("2x3x6x5", "2x4")),
    Case("film.py:SpadeBlock", ("2x4x6x4", "2x3x3x2")),
    Case("autoencoder.py:ConvAutoencoder", ("2x1x12x12",)),
    Case("autoencoder.py:UpsampleDecoder", ("2x4x3x4",)),
    Case("autoencoder.py:IndexUnpool", ("2x1x6x6",)),
    Case("gates.py:Highway", ("3x6",)),
    Case("gates.py:Maxout", ("2x3x6",)),
    Case("gates.py:MixtureOfExperts", ("3x6",)),
    Case("gates.py:TopTwo", ("3x6",)),
    Case("outputs.py:MultiTask", ("3x6",)),
    Case("outputs.py:Pyramid", ("2x3x8x8",)),
    Case("outputs.py:TakesAnyNumber", ("3x4", "3x4", "3x4")),
    Case("outputs.py:NamedFields", ("3x6",)),
    Case("configs.py:Experts", ("3x4",)),
    Case("configs.py:Halves", ("4x4",)),
    Case("module_tensors.py:Normalized", (IMAGE,)),
    Case("module_tensors.py:Tracked", ("3x4",)),
    Case("shared.py:SharedHead", ("3x4",)),
    Case("shared.py:twice", ("3x4",)),
    Case("shared.py:once", ("3x4",), built=True),
    Case("shared.py:twice", ("3x4",), built=True, refused="is in several places of the network"),
    Case("decorated.py:Timed", ("3x4",)),
    Case("decorated.py:Sparse", ("3x4",), refused="torch.sparse_coo_tensor has no rule"),
    Case("decorated.py:Nested", ("3x4",), refused="does not run"),
    Case("extremes.py:WarpedPool", ("2x3x4x4",)),
    Case("tabs.py:Tabbed", ("3x4",)),
    Case("compiled.py:Compiled", ("3x4",)),
    Case("compiled.py:compiled_network", ("3x4",)),
    Case("compiled.py:Hooked", ("3x4",), refused="hooks of layers have no counterpart"),
    Case("compiled.py:ScalesGradient", ("3x4",), refused="gradients taken within a network"),
    Case("convnext.py:ConvNeXt", (IMAGE,)),
    Case("swin.py:SwinBlock", ("2x64x6",)),
    Case("swin.py:SwinBlock", ("2x64x6",), {"shift_size": 0}),
    Case("swin.py:PatchMerging", ("2x6x4x4",)),
    Case("control_flow.py:DependsOnData", ("3x4",), eager=True),
    Case("control_flow.py:ShrinksNorm", ("3x4",), eager=True),
    Case("control_flow.py:SharedSteps", ("3x4",)),
    Case("control_flow.py:SharedSteps", ("3x4",), {"early_exit": 1}),
    Case("control_flow.py:DynamicNet", ("3x4",), refused="drawn at random"),
    Case("control_flow.py:DropsByNumPy", ("3x4",), refused="drawn at random"),
    Case("control_flow.py:SelectsRows", ("3x4",), eager=True),
    Case("options.py:ByName", ("3x5",)),
    Case("options.py:WithLambdas", ("2x3x5",)),
    Case("options.py:PartialNorms", ("3x5",)),
    Case("options.py:Switches", ("2x4x6",)),
    Case("options.py:Switches", ("2x4x6",), {"mode": "mean", "residual": False}),
    Case("inherits.py:Base", ("3x4",)),
    Case("inherits.py:Deeper", ("3x4",)),
    Case("inherits.py:OfBlocks", ("2x3x6x6",)),
    Case("inherits.py:Plain", ("3x4",)),
    Case("nhwc.py:Mixer", ("2x3x8x8",)),
    Case("nhwc.py:AxialMLP", ("2x3x6x4",)),
    Case("nhwc.py:ChannelsLastInput", ("2x8x8x3:uint8:256",)),
    Case("volumes.py:VolumeNet", ("2x1x4x6x6",)),
    Case("volumes.py:VolumeCNN", ("2x1x4x8x8",)),
    Case("diffusion_unet.py:DiffusionUNet", ("2x1x8x8", "2"), {"width": 8, "times": 8}),
    Case("style_net.py:StyleNet", ("2x3x8x8",), {"width": 4}),
    Case("crnn.py:CRNN", ("2x1x32x8",)),
    Case("conformer.py:ConformerBlock", ("2x7x8",), {"dim": 8}),
    Case("volumes.py:FramesThenTime", ("2x3x2x6x6",)),
    Case("volumes.py:SpeechNet", ("2x1x64",)),
    Case("recommenders.py:MatrixFactorization", ("4:int64", "4:int64")),
    Case("recommenders.py:FactorizationMachine", ("3x3:int64:4",)),
    Case("recommenders.py:WideAndDeep", ("3x2:int64:4", "3x3")),
    Case("recommenders.py:SentenceCNN", ("2x7:int64",)),
    Case("agents.py:DuelingDQN", ("2x2x10x10",)),
    Case("agents.py:ActorCritic", ("3x6", "3x2")),
    Case("agents.py:GridWorld", ("2x1x12x12",)),
    Case("graphs.py:GCN", ("4x5", "4x4")),
    Case("graphs.py:GraphAttention", ("4x5", "4x4")),
    Case("built.py:assembled", (IMAGE,)),
    Case("built.py:assembled", (IMAGE,), built=True),
    Case("built.py:Network", (IMAGE,), built=True),
    Case("fields.py:Siren", ("5x2",)),
    Case("fields.py:FourierNet", ("5x3",)),
    Case("fields.py:Denoiser", ("2x1x6x6", "2")),
    Case("fields.py:Euler", ("3x3",)),
]
