/** Ways out, as Python that PEFT runs. */
const AS_LORA =
  'Approximate it by LoRA and compare the answers: peft.save_as_lora("out", model, rank=32)'
const MERGE =
  'Merge it and publish the result as a base: model.merge_and_unload().save_pretrained("out")'
const RETRAIN = 'Train LoRA instead: get_peft_model(model, LoraConfig(target_modules="all-linear"))'
const PREFIX =
  'Train PREFIX_TUNING instead: get_peft_model(model, PrefixTuningConfig(num_virtual_tokens=32))'
const PROMPT =
  'Train PROMPT_TUNING instead: get_peft_model(model, PromptTuningConfig(num_virtual_tokens=32))'

/** PEFT's methods that compile to no operation: why, and what to do with such an adapter. */
export const REFUSED_TYPES: Readonly<Record<string, { why: string; wayOut: string }>> = {
  ADAMSS: { why: "its subspaces are an SVD of the base's weights", wayOut: MERGE },
  ADAPTION_PROMPT: { why: 'it adds a second, gated attention over its prompt', wayOut: RETRAIN },
  BEFT: { why: 'it adds to biases by projections of its own', wayOut: MERGE },
  BONE: { why: 'it is the old name of MISS', wayOut: AS_LORA },
  C3A: { why: 'its updates are block-circulant matrices', wayOut: AS_LORA },
  CARTRIDGE: { why: 'it is a cache of keys and values that PEFT may reorder', wayOut: PREFIX },
  CPT: { why: 'it mixes tokens of examples and trained embeddings', wayOut: PROMPT },
  DEFT: { why: "it projects the base's weights", wayOut: MERGE },
  DELORA: { why: "its strength is scaled by norms of the base's weights", wayOut: AS_LORA },
  FROD: { why: "it rotates within a joint decomposition of the base's weights", wayOut: MERGE },
  GLORA: { why: "it multiplies the base's weights by matrices", wayOut: MERGE },
  GRALORA: { why: 'its sub-blocks exchange information', wayOut: AS_LORA },
  HIRA: {
    why: "its update is multiplied with the base's weights element by element",
    wayOut: MERGE,
  },
  HRA: { why: "it reflects the base's inputs", wayOut: MERGE },
  LILY: { why: 'a router chooses among its factors by the input', wayOut: RETRAIN },
  MISS: { why: 'its blocks may multiply the base\'s weights ("bat")', wayOut: AS_LORA },
  MULTITASK_PROMPT_TUNING: { why: 'its prompt depends on the task of each call', wayOut: PROMPT },
  OSF: { why: "it trains a subspace of the base's own weights", wayOut: MERGE },
  PEANUT: { why: "it is a nonlinear function of the base's weights", wayOut: MERGE },
  POLY: { why: 'a router mixes its skills by the task of each call', wayOut: RETRAIN },
  PSOFT: { why: "its factors are an SVD of the base's weights", wayOut: AS_LORA },
  PVERA: { why: 'it samples from a distribution of factors', wayOut: MERGE },
  RANDLORA: { why: 'it weighs random bases that are shared by all layers', wayOut: AS_LORA },
  ROAD: { why: 'it rotates pairs of outputs', wayOut: MERGE },
  SHADOW: { why: 'it runs a second network beside the base', wayOut: RETRAIN },
  SHIRA: { why: 'the places of its values may be derived from a seed', wayOut: MERGE },
  SUPERTUNING: { why: 'it changes single weights of the base', wayOut: MERGE },
  TINYLORA: {
    why: "its factors are an SVD of the base's weights and random tensors",
    wayOut: AS_LORA,
  },
  UNILORA: { why: 'its factors are drawn from one vector by a seed', wayOut: AS_LORA },
  VBLORA: { why: 'its factors are mixtures of a shared bank of vectors', wayOut: AS_LORA },
  WAVEFT: { why: 'the places of its coefficients are derived from a seed', wayOut: AS_LORA },
  XLORA: {
    why: 'a classifier mixes several adapters by the input',
    wayOut: 'Publish each of its LoRA adapters by itself',
  },
}
