//! Architectures that people may well try, and why they are not computed here.

/// What a class or a `model_type` begins with.
const FAMILIES: &[(&[&str], &str)] = &[
    (&["Deberta", "deberta"], "its attention adds scores of relative positions"),
    (
        &["ModernBert", "modernbert"],
        "its positions rotate queries and keys, and most of its layers attend to neighbours alone",
    ),
    (
        &["Albert", "albert"],
        "all its layers share one set of weights, which an ApproxNet of as many layers does not fit",
    ),
    (&["MPNet", "mpnet"], "its attention adds scores of relative positions"),
    (
        &["Beit", "beit", "Data2VecVision", "data2vec-vision"],
        "its attention adds scores of relative positions, and its head averages all tokens",
    ),
    (
        &["Swin", "swin"],
        "its attention stays within windows, and its head averages all tokens: no [CLS] to track back from",
    ),
    (&["Dinov2WithRegisters", "dinov2_with_registers"], "its register tokens are not read"),
    (
        &["Dinov2ForImageClassification"],
        "its head averages all tokens, so that none can be pruned; Dinov2Model is supported",
    ),
    (
        &["XLNet", "xlnet", "GPT", "gpt", "Llama", "llama", "Qwen", "qwen", "Mistral", "mistral"],
        "its tokens attend to those before them alone, and its last token counts, not [CLS]",
    ),
    (&["MobileBert", "mobilebert"], "its layers narrow and widen around their attention"),
    (&["NomicBert", "nomic_bert"], "its positions rotate queries and keys"),
    (
        &["Longformer", "longformer", "BigBird", "big_bird"],
        "its tokens attend to their neighbours and a few others alone",
    ),
    (
        &["XLMRobertaXL", "xlm-roberta-xl", "RobertaPreLayerNorm", "roberta-prelayernorm"],
        "its norms stand before attention and MLP",
    ),
    (&["ViTMAE", "vit_mae"], "it leaves patches out by chance"),
    (&["DINOv3", "dinov3"], "its positions rotate queries and keys"),
    (&["CLIP", "clip", "Siglip", "siglip"], "it is half of a model that compares pictures with texts"),
    (
        &[
            "ResNet",
            "resnet",
            "ConvNext",
            "convnext",
            "EfficientNet",
            "efficientnet",
            "MobileNet",
            "mobilenet",
            "RegNet",
            "regnet",
        ],
        "it has convolutions instead of attention, and no tokens to prune",
    ),
    (&["TF", "Flax"], "the class is not PyTorch's: save the model with PyTorch's `save_pretrained`"),
    (&["T5", "t5", "MT5", "mt5", "Bart", "bart", "MBart", "mbart"], "it has a decoder"),
];

/// What a class ends with.
const HEADS: &[(&str, &str)] = &[
    ("ForMaskedLM", "its head predicts words, and every token is an output; an embedder has modules.json too"),
    ("ForPreTraining", "its head predicts words, and every token is an output"),
    ("ForTokenClassification", "its head labels every token, so that none can be pruned"),
    ("ForQuestionAnswering", "its head reads every token, so that none can be pruned"),
    ("ForMultipleChoice", "its head compares several inputs"),
    ("ForMaskedImageModeling", "its head predicts patches, and every token is an output"),
];

/// Why a class or `model_type` that no family has is not computed.
pub fn reason(class: Option<&str>, model_type: Option<&str>) -> Option<&'static str> {
    let is_of = |starts: &[&str]| {
        let name = class.or(model_type);
        starts.iter().any(|start| name.is_some_and(|name| name.starts_with(start)))
    };
    let family = FAMILIES.iter().find(|(starts, _)| is_of(starts)).map(|&(_, reason)| reason);
    let head = || HEADS.iter().find(|(end, _)| class.is_some_and(|class| class.ends_with(end))).map(|&(_, why)| why);
    family.or_else(head)
}
