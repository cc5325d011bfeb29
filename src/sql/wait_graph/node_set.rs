//! Sets of a graph's nodes, a bit for each: their unions cost a word for 64 nodes.

/// A set of nodes.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeSet(Vec<u64>);

impl NodeSet {
    pub fn empty(nodes: usize) -> NodeSet {
        NodeSet(vec![0; nodes.div_ceil(64)])
    }

    pub fn insert(&mut self, node: usize) {
        self.0[node / 64] |= 1 << (node % 64);
    }

    pub fn contains(&self, node: usize) -> bool {
        self.0[node / 64] & (1 << (node % 64)) != 0
    }

    /// Adds the nodes of another set; tells whether any was new.
    pub fn extend(&mut self, other: &NodeSet) -> bool {
        let mut grown = false;
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            grown |= more & !*word != 0;
            *word |= more;
        }
        grown
    }

    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let (mut at, mut word) = (0, self.0.first().copied().unwrap_or_default());
        std::iter::from_fn(move || {
            while word == 0 {
                at += 1;
                word = *self.0.get(at)?;
            }
            let node = at * 64 + word.trailing_zeros() as usize;
            word &= word - 1;
            Some(node)
        })
    }
}
