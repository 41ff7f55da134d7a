//! Goroutines put together that do the same.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Entry, PlaceId, StackId, StackState, Survey, Wait, status_word};
use crate::golang::endpoint::Endpoint;
use crate::golang::gs::Status;
use crate::golang::labels::Labels;

/// What goroutines are put together by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum By {
    /// Status, reason, top user frame and creation site.
    #[default]
    All,
    /// The `go` statement that made them.
    Created,
    /// Status.
    State,
    /// Status and reason.
    Reason,
    /// Innermost function outside of package runtime.
    Func,
    /// Innermost frame of the program's own code.
    User,
    /// The whole stack.
    Stack,
    /// pprof labels.
    Label,
    /// The other end of the connection that they wait for.
    Peer,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Key {
    All(Status, Arc<str>, Option<PlaceId>, Option<PlaceId>),
    Place(Option<PlaceId>),
    State(Status),
    Reason(Status, Arc<str>),
    Func(Option<Arc<str>>),
    Stack(Option<StackId>),
    Labels(Option<Arc<Labels>>),
    Peer(Option<Endpoint>),
}

/// A fact that all of a group share.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Shared<T> {
    /// None looked at yet.
    #[default]
    Empty,
    /// All have this.
    Same(T),
    /// They differ.
    Mixed,
}

impl<T: PartialEq> Shared<T> {
    /// One more of the group has this.
    pub fn add(&mut self, value: T) {
        *self = match std::mem::take(self) {
            Shared::Empty => Shared::Same(value),
            Shared::Same(known) if known == value => Shared::Same(known),
            Shared::Same(_) | Shared::Mixed => Shared::Mixed,
        };
    }

    /// What they share.
    pub fn get(&self) -> Option<&T> {
        match self {
            Shared::Same(value) => Some(value),
            Shared::Empty | Shared::Mixed => None,
        }
    }

    /// They differ.
    pub fn is_mixed(&self) -> bool {
        matches!(self, Shared::Mixed)
    }
}

/// Goroutines that do the same.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// How many.
    pub count: usize,
    /// Not every stack of them was read: the frame is that of those that were.
    pub sampled: bool,
    /// Status.
    pub status: Shared<Status>,
    /// Reason; empty when they do not wait.
    pub reason: Shared<Arc<str>>,
    /// The longest known wait.
    pub wait_max: Option<Wait>,
    /// The innermost frame of the program's own code, else the innermost
    /// outside of package runtime.
    pub frame: Shared<Option<PlaceId>>,
    /// The `go` statement.
    pub created: Shared<Option<PlaceId>>,
    /// The other end.
    pub peer: Shared<Option<Endpoint>>,
    /// pprof labels.
    pub labels: Shared<Option<Arc<Labels>>>,
    /// The stack.
    pub stack: Shared<Option<StackId>>,
    /// The lowest number among them.
    pub first: u64,
}

impl Group {
    fn add(&mut self, one: &Entry) {
        if self.count == 0 || one.goid < self.first {
            self.first = one.goid;
        }
        self.count += one.count;
        self.sampled |= one.stack_state == StackState::Unread;
        self.status.add(one.status);
        self.reason.add(one.reason.clone());
        self.frame.add(one.user.or(one.func));
        self.created.add(one.created);
        self.peer.add(other_end(one).cloned());
        self.labels.add(one.labels.clone());
        self.stack.add(one.stack);
        self.wait_max = match (self.wait_max, one.wait) {
            (Some(a), Some(b)) if b.ns() > a.ns() => Some(b),
            (None, b) => b,
            (a, _) => a,
        };
    }

    /// `IO wait`, `running`: the reason where there is one.
    pub fn doing(&self) -> String {
        match (self.status.get(), self.reason.get()) {
            (_, Some(reason)) if !reason.is_empty() => reason.to_string(),
            (Some(status), _) => status_word(*status).to_owned(),
            (None, _) => "…".to_owned(),
        }
    }
}

/// The other end of what a goroutine waits for.
pub fn other_end(one: &Entry) -> Option<&Endpoint> {
    let remote = one.net.as_deref()?.remote.as_ref();
    remote.filter(|r| !r.is_unnamed())
}

/// Groups of `chosen`, largest first; equal ones in the order of their lowest
/// numbers.
pub fn groups<'a>(
    survey: &Survey,
    by: By,
    chosen: impl IntoIterator<Item = &'a Entry>,
) -> Vec<Group> {
    let mut index: HashMap<Key, usize> = HashMap::new();
    let mut groups: Vec<Group> = Vec::new();
    for one in chosen {
        let at = *index.entry(key(survey, by, one)).or_insert_with(|| {
            groups.push(Group::default());
            groups.len() - 1
        });
        if let Some(group) = groups.get_mut(at) {
            group.add(one);
        }
    }
    groups.sort_by(|a, b| b.count.cmp(&a.count).then(a.first.cmp(&b.first)));
    groups
}

fn key(survey: &Survey, by: By, one: &Entry) -> Key {
    match by {
        By::All => Key::All(
            one.status,
            one.reason.clone(),
            one.user.or(one.func),
            one.created,
        ),
        By::Created => Key::Place(one.created),
        By::State => Key::State(one.status),
        By::Reason => Key::Reason(one.status, one.reason.clone()),
        By::Func => Key::Func(survey.names.find(one.func).map(|p| p.func.clone())),
        By::User => Key::Place(one.user),
        By::Stack => Key::Stack(one.stack),
        By::Label => Key::Labels(one.labels.clone()),
        By::Peer => Key::Peer(other_end(one).cloned()),
    }
}
