//! Frames on the report connection: a 32-bit big-endian length, then one protobuf message.
//!
//! Not for KEDA's gRPC, which frames for itself.

use std::{io, marker::PhantomData};

use bytes::{BufMut as _, BytesMut};
use prost::Message;
use tokio_util::codec::{Decoder, Encoder, LengthDelimitedCodec};

/// Largest frame that either side accepts, in bytes. A report of a sidecar is under 64; an activator's grows by
/// about 100 for each workload it names.
pub const MAX_FRAME: usize = 1024 * 1024;

/// Writes messages of type `Out` and reads messages of type `In`.
#[derive(Debug)]
pub struct FrameCodec<Out, In> {
    lengths: LengthDelimitedCodec,
    types: PhantomData<fn(Out) -> In>,
}

impl<Out, In> Default for FrameCodec<Out, In> {
    fn default() -> Self {
        Self::with_limit(MAX_FRAME)
    }
}

impl<Out, In> FrameCodec<Out, In> {
    /// Returns a codec that refuses frames longer than `limit` bytes in both directions.
    pub fn with_limit(limit: usize) -> Self {
        let lengths = LengthDelimitedCodec::builder()
            .max_frame_length(limit)
            .new_codec();
        Self {
            lengths,
            types: PhantomData,
        }
    }

    /// Changes the longest frame that is accepted from here on, in bytes.
    pub fn set_limit(&mut self, limit: usize) {
        self.lengths.set_max_frame_length(limit);
    }
}

impl<Out: Message, In> Encoder<Out> for FrameCodec<Out, In> {
    type Error = io::Error;

    fn encode(&mut self, message: Out, target: &mut BytesMut) -> io::Result<()> {
        let length = message.encoded_len();
        if length > self.lengths.max_frame_length() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "frame exceeds the limit",
            ));
        }
        let length = u32::try_from(length).map_err(io::Error::other)?;
        target.reserve(size_of::<u32>() + length as usize);
        target.put_u32(length);
        message.encode(target).map_err(io::Error::other)
    }
}

impl<Out, In: Message + Default> Decoder for FrameCodec<Out, In> {
    type Item = In;
    type Error = io::Error;

    fn decode(&mut self, source: &mut BytesMut) -> io::Result<Option<In>> {
        let Some(frame) = self.lengths.decode(source)? else {
            return Ok(None);
        };
        In::decode(frame)
            .map(Some)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Count, PodReport, ReporterFrame, reporter_frame::Kind};

    fn frame() -> ReporterFrame {
        let count = Count {
            in_flight: 3,
            in_flight_time: 70,
            requests: 9,
        };
        let pod = PodReport {
            elapsed: 5,
            count: Some(count),
            app_ready: true,
            draining: false,
        };
        ReporterFrame {
            kind: Some(Kind::Pod(pod)),
        }
    }

    #[test]
    fn a_frame_cut_anywhere_is_read_once_whole() {
        let mut codec = FrameCodec::<ReporterFrame, ReporterFrame>::default();
        let mut wire = BytesMut::new();
        codec.encode(frame(), &mut wire).unwrap();
        let mut received = BytesMut::new();
        for (index, byte) in wire.iter().enumerate() {
            assert!(
                codec.decode(&mut received).unwrap().is_none(),
                "complete before byte {index}"
            );
            received.put_u8(*byte);
        }
        assert_eq!(codec.decode(&mut received).unwrap(), Some(frame()));
        assert!(received.is_empty());
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_by_both_sides() {
        let mut codec = FrameCodec::<ReporterFrame, ReporterFrame>::with_limit(4);
        assert!(codec.encode(frame(), &mut BytesMut::new()).is_err());
        let mut announced = BytesMut::from(&[0, 0, 0, 5][..]);
        assert!(codec.decode(&mut announced).is_err());
    }

    #[test]
    fn a_frame_that_is_no_message_is_an_error() {
        let mut codec = FrameCodec::<ReporterFrame, ReporterFrame>::default();
        let mut wire = BytesMut::from(&[0, 0, 0, 2, 0xff, 0xff][..]);
        assert_eq!(
            codec.decode(&mut wire).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }
}
