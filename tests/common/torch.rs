//! Files as `torch.save` writes them, and as it does not.

use safetensors::Dtype;

use super::edit::{HostTensor, Tensors};

/// A view of a storage.
pub struct View {
    pub name: String,
    /// Such as `FloatStorage`.
    pub class: &'static str,
    pub key: String,
    pub storage_len: usize,
    pub offset: usize,
    pub shape: Vec<usize>,
    pub stride: Vec<usize>,
}

pub fn storage_class(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F32 => "FloatStorage",
        Dtype::F64 => "DoubleStorage",
        Dtype::F16 => "HalfStorage",
        Dtype::BF16 => "BFloat16Storage",
        Dtype::I64 => "LongStorage",
        Dtype::BOOL => "BoolStorage",
        other => panic!("{other}"),
    }
}

/// Each tensor in a storage of its own, row by row.
pub fn views(tensors: &Tensors) -> Vec<View> {
    let view = |(index, (name, tensor)): (usize, (&String, &HostTensor))| {
        let mut stride = vec![1; tensor.shape.len()];
        for axis in (1..stride.len()).rev() {
            stride[axis - 1] = stride[axis] * tensor.shape[axis];
        }
        View {
            name: name.clone(),
            class: storage_class(tensor.dtype),
            key: index.to_string(),
            storage_len: tensor.shape.iter().product(),
            offset: 0,
            shape: tensor.shape.clone(),
            stride,
        }
    };
    tensors.iter().enumerate().map(view).collect()
}

/// A pickle of protocol 2 in the making.
pub struct Pickle(pub Vec<u8>);

impl Pickle {
    pub fn new() -> Self {
        Self(vec![0x80, 2])
    }

    pub fn op(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.0.extend(bytes.as_ref());
        self
    }

    pub fn text(&mut self, text: &str) -> &mut Self {
        self.op("X").op((text.len() as u32).to_le_bytes()).op(text)
    }

    pub fn int(&mut self, value: usize) -> &mut Self {
        self.op("J").op((value as i32).to_le_bytes())
    }

    pub fn ints(&mut self, values: &[usize]) -> &mut Self {
        self.op("(");
        for &value in values {
            self.int(value);
        }
        self.op("t")
    }

    pub fn global(&mut self, module: &str, name: &str) -> &mut Self {
        self.op("c").op(module).op("\n").op(name).op("\n")
    }

    pub fn tensor(&mut self, view: &View) -> &mut Self {
        self.global("torch._utils", "_rebuild_tensor_v2").op("(");
        self.op("(").text("storage").global("torch", view.class).text(&view.key).text("cpu").int(view.storage_len);
        self.op("tQ").int(view.offset).ints(&view.shape).ints(&view.stride).op([0x89]);
        self.global("collections", "OrderedDict").op(")RtR")
    }

    /// An `OrderedDict` of tensors; `more` adds keys and values.
    pub fn state_dict(&mut self, views: &[View], more: impl FnOnce(&mut Self)) -> &mut Self {
        self.global("collections", "OrderedDict").op(")R(");
        for view in views {
            self.text(&view.name).tensor(view);
        }
        more(self);
        self.op("u.")
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

/// An archive. `method` 0 stores, 8 says that the files are deflated.
pub fn archive(files: &[(String, Vec<u8>)], method: u16) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in files {
        let mut common = Vec::new();
        common.extend([20, 0, 0, 0]);
        common.extend(method.to_le_bytes());
        common.extend([0; 4]);
        common.extend(crc32(data).to_le_bytes());
        common.extend([data.len() as u32; 2].iter().flat_map(|length| length.to_le_bytes()));
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend((bytes.len() as u32).to_le_bytes());
        directory.extend(name.as_bytes());
        bytes.extend(b"PK\x03\x04");
        bytes.extend(&common);
        bytes.extend(name.as_bytes());
        bytes.extend(data);
    }
    let (start, length) = (bytes.len() as u32, directory.len() as u32);
    bytes.extend(&directory);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend([files.len() as u16; 2].iter().flat_map(|count| count.to_le_bytes()));
    bytes.extend(length.to_le_bytes());
    bytes.extend(start.to_le_bytes());
    bytes.extend([0, 0]);
    bytes
}

/// The files of an archive: this pickle, these storages, and what PyTorch adds.
pub fn archived(pickle: Vec<u8>, storages: impl IntoIterator<Item = Vec<u8>>) -> Vec<(String, Vec<u8>)> {
    let mut files = vec![("archive/data.pkl".to_owned(), pickle), ("archive/byteorder".to_owned(), b"little".to_vec())];
    files.extend(storages.into_iter().enumerate().map(|(key, bytes)| (format!("archive/data/{key}"), bytes)));
    files.push(("archive/version".to_owned(), b"3\n".to_vec()));
    files
}

/// `pytorch_model.bin` of these tensors.
pub fn torch_file(tensors: &Tensors) -> Vec<u8> {
    let mut pickle = Pickle::new();
    pickle.state_dict(&views(tensors), |_| {});
    archive(&archived(pickle.0, tensors.values().map(|tensor| tensor.bytes.clone())), 0)
}

/// The same before PyTorch 1.6.
pub fn legacy_torch_file(tensors: &Tensors) -> Vec<u8> {
    let views = views(tensors);
    let mut file =
        Pickle(b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}".to_vec());
    file.op("(").text("protocol_version").int(1001).text("little_endian").op([0x88]).text("type_sizes").op("}u.");
    let mut pickle = Pickle::new();
    pickle.state_dict(&views, |_| {});
    file.op(&pickle.0);
    file.op([0x80, 2]).op("](");
    for view in &views {
        file.text(&view.key);
    }
    file.op("e.");
    for (view, tensor) in views.iter().zip(tensors.values()) {
        file.op((view.storage_len as i64).to_le_bytes()).op(&tensor.bytes);
    }
    file.0
}
